"""Spectral norm on the generators (B.1; Miyato et al., 2018), and its folding into plain weights for files.

This module selects the layers; torch's `spectral_norm` does the computation. The output of a weight-standardised
convolution does not depend on the scale of its weight, so a norm before the standardisation would have no effect. There
the standardised weight is divided by its norm. Layers that start at zero are left out: the norm of their weight is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from megaportraits.nn.blocks import StandardizedConv2d, StandardizedConv3d, plain_conv, standardize_weight


class Standardization(nn.Module):
    """Weight standardisation as a parametrisation, so that a spectral norm can be applied after it."""

    def forward(self, weight: Tensor) -> Tensor:
        """The standardised weight."""
        return standardize_weight(weight)


def add_spectral_norm(module: nn.Module, *, standardized: bool = True) -> int:
    """Divide the weights of convolutions and linear layers by their largest singular value, in place.

    Args:
        module: a network, or a single layer that is not weight-standardised.
        standardized: whether to include weight-standardised convolutions, whose standardised weights are divided.

    Returns:
        The number of layers that now have a spectral norm.
    """
    count = 0
    if standardized:
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, StandardizedConv2d | StandardizedConv3d):
                    setattr(parent, name, _standardizing(child))
    for layer in list(module.modules()):
        if not isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            continue
        if not isinstance(layer, StandardizedConv2d | StandardizedConv3d) and layer.weight.detach().any().item():
            spectral_norm(layer)
            count += 1
    return count


def _standardizing(conv: StandardizedConv2d | StandardizedConv3d) -> nn.Module:
    """The same convolution, with weight standardisation as a parametrisation."""
    plain = plain_conv(conv)
    plain.load_state_dict(conv.state_dict(), assign=True)
    parametrize.register_parametrization(plain, "weight", Standardization())
    return plain.train(conv.training)


def norms_standardized(module: nn.Module) -> bool:
    """Whether any layer of a module has a spectral norm after weight standardisation."""
    return any(isinstance(m, Standardization) for m in module.modules())


def plain_state_dict(module: nn.Module, *, standardizes: bool = True) -> dict[str, Tensor]:
    """The state dict with which the same module without spectral norms gives the same outputs.

    The norms are those of evaluation mode: no power iteration is run.

    Args:
        module: a network with or without spectral norms.
        standardizes: whether the module that will load the state dict standardises the weights itself, as this one
            does. If False, they are standardised here.
    """
    training = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            state = {k: v for k, v in module.state_dict().items() if ".parametrizations." not in f".{k}"}
            for name, layer in module.named_modules():
                if parametrize.is_parametrized(layer, "weight"):
                    state[f"{name}.weight" if name else "weight"] = layer.weight.detach()
                elif not standardizes and isinstance(layer, StandardizedConv2d | StandardizedConv3d):
                    state[f"{name}.weight"] = standardize_weight(layer.weight.detach())
    finally:
        for m, mode in training.items():
            m.training = mode
    return state
