"""Prepares networks for inference: memory layout, kernels and precision for a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from megaportraits.choices import Precision
from megaportraits.nn.blocks import fold_weight_standardization

_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class OneDnnConv3d(nn.Conv3d):
    """A 3D convolution that uses oneDNN for a single small item, too.

    For a float32 item of up to 20,480 values in C, D and H, torch (2.14) uses a slower kernel of its own.
    """

    def forward(self, x: Tensor) -> Tensor:
        small = len(x) == 1 and x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        if small and _ONEDNN and not torch.is_autocast_enabled("cpu"):
            padding = cast("tuple[int, ...]", self.padding)  # never "same" or "valid" in this project
            return torch.mkldnn_convolution(x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups)
        return super().forward(x)


def prepare_for_inference(module: nn.Module, precision: Precision = "float32") -> None:
    """Fold weight standardisation, and store the weights of convolutions in a fast memory layout; in place.

    The layout is channels-last, in 2D and 3D; the layout of activations follows that of the weights. For bfloat16 the
    weights of convolutions are stored in bfloat16, so that they are not converted for every frame (`running` sets the
    precision of everything else). Outputs do not change beyond the rounding of the precision. Do not train or save the
    module afterwards.

    Args:
        module: a trained network, in evaluation mode.
        precision: the precision in which it will run.
    """
    fold_weight_standardization(module)
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv3d:
                setattr(parent, name, _as_onednn(child))
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            flat = isinstance(layer, nn.Conv2d)
            if precision == "bfloat16":
                layer.to(torch.bfloat16)
            layer.weight.data = layer.weight.data.contiguous(
                memory_format=torch.channels_last if flat else torch.channels_last_3d
            )


def _as_onednn(conv: nn.Conv3d) -> OneDnnConv3d:
    with torch.device("meta"):
        made = OneDnnConv3d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            bias=conv.bias is not None,
        )
    made.load_state_dict(conv.state_dict(), assign=True)
    return made.train(conv.training).requires_grad_(False)


@contextmanager
def running(device: torch.device, precision: Precision) -> Iterator[None]:
    """Context in which networks run on a device, in a precision and without gradients.

    With bfloat16, convolutions and matrix products run in bfloat16. Sampling grids, coordinates and sums over pixels
    stay in float32, as in training with `bf16-mixed`.
    """
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield
