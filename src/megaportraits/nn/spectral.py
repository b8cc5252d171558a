"""Spectral norm on the generators (B.1; Miyato et al., 2018), and plain weights again for files.

Torch's own parametrisation does the work; here is decided where it stands. A weight-standardised convolution gives the
same output whatever the scale of its weight, so a norm beneath it would cost and change nothing: those are left out.
Layers that start at zero are left out as well: a zero weight has no spectral norm to divide by.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from megaportraits.nn.blocks import StandardizedConv2d, StandardizedConv3d


def add_spectral_norm(module: nn.Module) -> int:
    """Divide the weights of convolutions and linear layers by their largest singular value, in place.

    Returns:
        The number of layers it stands on now.
    """
    count = 0
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            continue
        standardized = isinstance(layer, StandardizedConv2d | StandardizedConv3d)
        if not standardized and layer.weight.detach().any().item():
            spectral_norm(layer)
            count += 1
    return count


def plain_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The state dict that the same module without spectral norms needs to give the same outputs.

    The norms are those of evaluation mode: no power iteration is made.
    """
    training = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            state = {k: v for k, v in module.state_dict().items() if ".parametrizations." not in f".{k}"}
            for name, layer in module.named_modules():
                if parametrize.is_parametrized(layer, "weight"):
                    state[f"{name}.weight" if name else "weight"] = layer.weight.detach()
    finally:
        for m, mode in training.items():
            m.training = mode
    return state
