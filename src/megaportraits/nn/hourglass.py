"""Convolution blocks and the hourglass of keypoint-based animation (Siarohin et al., 2019), in 2D and 3D.

The published models use BatchNorm. These use GroupNorm, as all networks of this package (A.1): its results do not
depend on the other samples of a batch. Both have the same parameters.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.nn.blocks import BlockStyle, make_conv


class ConvBlock(nn.Module):
    """Convolution, GroupNorm, ReLU."""

    def __init__(self, dim: int, inputs: int, outputs: int, style: BlockStyle, *, kernel: int = 3) -> None:
        super().__init__()
        self.conv = make_conv(dim, inputs, outputs, kernel)
        self.norm = style.norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)


def halved(x: Tensor) -> Tensor:
    """Average pooling of images (B, C, H, W) by 2, and of volumes (B, C, D, H, W) in height and width only."""
    return F.avg_pool2d(x, 2) if x.ndim == 4 else F.avg_pool3d(x, (1, 2, 2))


def doubled(x: Tensor) -> Tensor:
    """Nearest upsampling of images (B, C, H, W) by 2, and of volumes (B, C, D, H, W) in height and width only."""
    return F.interpolate(x, scale_factor=2.0 if x.ndim == 4 else (1.0, 2.0, 2.0), mode="nearest")


def encoder_widths(width: int, most: int, levels: int) -> tuple[int, ...]:
    """Widths of the levels below the input: `width` doubled once for each level, at most `most`."""
    return tuple(min(most, width * 2 ** (level + 1)) for level in range(levels))


class DownBlocks(nn.Module):
    """Blocks that each halve the resolution: (B, inputs, H, W) to (B, widths[-1], H / 2^n, W / 2^n), or volumes."""

    def __init__(self, dim: int, inputs: int, widths: tuple[int, ...], style: BlockStyle) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvBlock(dim, a, b, style) for a, b in itertools.pairwise((inputs, *widths)))

    def forward(self, x: Tensor, finer: list[Tensor] | None = None) -> Tensor:
        """The coarsest features; the input of each block is appended to `finer`."""
        for block in self.blocks:
            if finer is not None:
                finer.append(x)
            x = halved(block(x))
        return x


class UpBlocks(nn.Module):
    """Blocks that each double the resolution: (B, widths[0], H, W) to (B, widths[-1], H 2^n, W 2^n), or volumes."""

    def __init__(
        self, dim: int, widths: tuple[int, ...], style: BlockStyle, *, skips: tuple[int, ...] | None = None
    ) -> None:
        """`skips` are the channels of the features that are concatenated before each block; None: no features are."""
        super().__init__()
        beside = skips or (0,) * (len(widths) - 1)
        self.blocks = nn.ModuleList(
            ConvBlock(dim, a + more, b, style) for (a, b), more in zip(itertools.pairwise(widths), beside, strict=True)
        )

    def forward(self, x: Tensor, finer: list[Tensor] | None = None) -> Tensor:
        """The finest features; with `finer`, its last entry is concatenated after each block."""
        for block in self.blocks:
            x = block(doubled(x))
            if finer is not None:
                x = torch.cat([x, finer.pop()], 1)
        return x


class Hourglass(nn.Module):
    """A U-Net with concatenated skips: (B, inputs, H, W) to (B, channels, H, W), or volumes (B, inputs, D, H, W).

    Height and width must be divisible by 2 to the power of `levels`. The depth of volumes stays.

    Args:
        dim: 2 for images, 3 for volumes.
        inputs: channels of the input.
        width: width of the last block; level n has the width `width` 2^n, at most `most`.
        most: largest width.
        levels: number of halvings.
        style: for the groups of the norms.
    """

    def __init__(self, dim: int, inputs: int, *, width: int, most: int, levels: int, style: BlockStyle) -> None:
        super().__init__()
        widths = encoder_widths(width, most, levels)
        self.encoder = DownBlocks(dim, inputs, widths, style)
        up = (*reversed(widths), min(most, width))
        self.decoder = UpBlocks(dim, up, style, skips=(0, *up[1:-1]))
        self.channels = up[-1] + inputs

    def forward(self, x: Tensor) -> Tensor:
        finer: list[Tensor] = []
        coarse = self.encoder(x, finer)
        return self.decoder(coarse, finer)
