"""Residual blocks of the paper: GroupNorm, weight-standardised convolutions (Appendix A.1, Figure 11c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WeightStandardization = Literal["paper", "all", "first", "none"]


@dataclass(frozen=True)
class BlockStyle:
    """Settings that all blocks of a model share.

    Attributes:
        groups: number of groups of every GroupNorm. A width that it does not divide uses the next smaller divisor.
        weight_standardization: which convolutions are weight-standardised. "paper": all except a network's first and
            last (the text of A.1). "all": all in residual branches, but no 1x1 skips or projections (`nano` was trained
            with this). "first": the first of each residual branch (Figure 11c). "none": no convolution.
    """

    groups: int = 32
    weight_standardization: WeightStandardization = "all"

    def norm(self, channels: int) -> nn.GroupNorm:
        """A GroupNorm over `channels`."""
        groups = min(self.groups, channels)
        while channels % groups:
            groups -= 1
        return nn.GroupNorm(groups, channels)

    def conv(self, dim: int, inputs: int, outputs: int, kernel: int, *, first: bool, stride: int = 1) -> nn.Module:
        """A convolution inside a block, weight-standardised if the style says so."""
        style = self.weight_standardization
        standardize = style in ("paper", "all") or (style == "first" and first)
        return make_conv(dim, inputs, outputs, kernel, stride=stride, standardize=standardize)

    def project(self, dim: int, inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
        """A 1x1 convolution outside residual branches: a skip, or a projection between modules."""
        standardize = self.weight_standardization == "paper"
        return make_conv(dim, inputs, outputs, 1, stride=stride, standardize=standardize)

    def skip(self, dim: int, inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
        """The skip of a residual block: the identity where the shape does not change, else a projection."""
        return nn.Identity() if inputs == outputs and stride == 1 else self.project(dim, inputs, outputs, stride=stride)


def standardize_weight(weight: Tensor, eps: float = 1e-5) -> Tensor:
    """Weight standardisation (Qiao et al., 2019): zero mean per output filter, variance 1 / fan-in.

    The variance 1 / fan-in (Brock et al., 2021) keeps a residual branch at the scale of its skip. With unit variance
    the branch would be sqrt(9 C) times larger and would dominate the skip.
    """
    axes = tuple(range(1, weight.ndim))
    fan_in = weight[0].numel()
    variance, mean = torch.var_mean(weight, dim=axes, keepdim=True, correction=0)
    return (weight - mean) * torch.rsqrt(variance * fan_in + eps)


class StandardizedConv2d(nn.Conv2d):
    """A 2D convolution with standardised weights."""

    def forward(self, x: Tensor) -> Tensor:
        weight = standardize_weight(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class StandardizedConv3d(nn.Conv3d):
    """A 3D convolution with standardised weights."""

    def forward(self, x: Tensor) -> Tensor:
        weight = standardize_weight(self.weight)
        return F.conv3d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def fold_weight_standardization(module: nn.Module) -> None:
    """Standardise the weights once instead of in every forward pass; in place, for inference.

    The outputs do not change. Training needs the raw weights, so do not save a folded model.
    """
    for name, child in module.named_children():
        if isinstance(child, (StandardizedConv2d, StandardizedConv3d)):
            plain = plain_conv(child)
            state = child.state_dict()
            state["weight"] = standardize_weight(state["weight"])
            plain.load_state_dict(state, assign=True)
            setattr(module, name, plain.train(child.training).requires_grad_(False))
        else:
            fold_weight_standardization(child)


def plain_conv(conv: StandardizedConv2d | StandardizedConv3d) -> nn.Module:
    """A convolution of the same shape without standardisation; its parameters are on the meta device."""
    with torch.device("meta"):
        dim, kernel, stride = conv.weight.ndim - 2, conv.kernel_size[0], conv.stride[0]
        return make_conv(dim, conv.in_channels, conv.out_channels, kernel, stride=stride)


def make_conv(
    dim: int, inputs: int, outputs: int, kernel: int, *, stride: int = 1, standardize: bool = False
) -> nn.Module:
    """A 2D or 3D convolution with same padding, for odd kernels."""
    kinds = {
        (2, False): nn.Conv2d,
        (2, True): StandardizedConv2d,
        (3, False): nn.Conv3d,
        (3, True): StandardizedConv3d,
    }
    return kinds[dim, standardize](inputs, outputs, kernel, stride=stride, padding=kernel // 2)


def add_branch(skip: Tensor, branch: Tensor) -> Tensor:
    """The sum of a skip and a residual branch, computed in place in `branch` where dtype and shape allow it.

    The backward pass of the branch's last layer does not need its output. Allocating memory for the sum would take
    longer than the addition, because the system maps it page by page.
    """
    return branch.add_(skip) if branch.dtype == skip.dtype and branch.shape == skip.shape else skip + branch


class ResBlock(nn.Module):
    """ResBlock2D / ResBlock3D: GN, ReLU, 3x3 conv, GN, ReLU, 3x3 conv, plus skip (Figure 11c).

    The skip is the identity, or a 1x1 convolution when the number of channels changes.
    """

    def __init__(self, dim: int, inputs: int, outputs: int, style: BlockStyle) -> None:
        super().__init__()
        self.norm1 = style.norm(inputs)
        self.conv1 = style.conv(dim, inputs, outputs, 3, first=True)
        self.norm2 = style.norm(outputs)
        self.conv2 = style.conv(dim, outputs, outputs, 3, first=False)
        self.skip = style.skip(dim, inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x), inplace=True))
        h = self.conv2(F.relu(self.norm2(h), inplace=True))
        return add_branch(self.skip(x), h)


class OutputHead(nn.Module):
    """GN, ReLU, 3x3 convolution (never standardised: it is a network's last layer)."""

    def __init__(self, dim: int, inputs: int, outputs: int, style: BlockStyle) -> None:
        super().__init__()
        self.norm = style.norm(inputs)
        self.conv = make_conv(dim, inputs, outputs, 3)

    def zero(self) -> None:
        """Set the convolution to zero, so that the output is zero when training starts."""
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.norm(x), inplace=True))
