"""E_app of the paper (3.1, A.1, Figure 9a): source image to volumetric features v_s and a global descriptor e_s."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import ModelConfig
from megaportraits.nn.backbones import ResNet
from megaportraits.nn.blocks import BlockStyle, ResBlock, make_conv
from megaportraits.ops.resample import fit_input


class VolumeEncoder(nn.Module):
    """7x7 convolution, residual blocks with 2x2 average pooling, 1x1 to C x D channels, ResBlock3Ds: v_s."""

    def __init__(self, config: ModelConfig, style: BlockStyle) -> None:
        super().__init__()
        app = config.appearance
        self.channels, self.depth, self.pool = config.volume_channels, config.volume_depth, app.pool
        self.stem = make_conv(2, 3, app.stem, 7)
        widths = (app.stem, *app.widths)
        self.blocks = nn.ModuleList(ResBlock(2, a, b, style) for a, b in itertools.pairwise(widths))
        self.norm = style.norm(widths[-1])
        self.to_volume = style.project(2, widths[-1], self.channels * self.depth)
        self.blocks_3d = nn.Sequential(
            *(ResBlock(3, self.channels, self.channels, style) for _ in range(app.blocks_3d))
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image * 2 - 1)  # (B, 64, S, S)
        for block, pool in zip(self.blocks, self.pool, strict=True):
            x = block(x)
            if pool:
                x = F.avg_pool2d(x, 2)
        x = self.to_volume(F.relu(self.norm(x), inplace=True))  # (B, C D, S/8, S/8)
        x = x.unflatten(1, (self.channels, self.depth))
        return self.blocks_3d(x)  # (B, C, D, S/8, S/8)


class DescriptorEncoder(nn.Module):
    """ResNet with GroupNorm, 1x1 convolution, pooled to a small grid: e_s (B, 512, 4, 4)."""

    def __init__(self, config: ModelConfig, style: BlockStyle) -> None:
        super().__init__()
        app = config.appearance
        self.size, self.grid = app.descriptor_size, config.descriptor_grid
        self.trunk = ResNet(app.descriptor_depth, app.descriptor_width, style)
        self.project = style.project(2, self.trunk.channels, config.descriptor)

    def forward(self, image: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.project(self.trunk(fit_input(image, self.size))), self.grid)


class AppearanceEncoder(nn.Module):
    """E_app: image (B, 3, S, S) in [0, 1] to volume v_s (B, C, D, S/8, S/8) and descriptor e_s (B, K, 4, 4)."""

    def __init__(self, config: ModelConfig, style: BlockStyle) -> None:
        super().__init__()
        self.volume = VolumeEncoder(config, style)
        self.descriptor = DescriptorEncoder(config, style) if config.use_descriptor else None

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.volume(image), self.describe(image)

    def describe(self, image: Tensor) -> Tensor | None:
        """e_s alone; None in the ablation without e_s."""
        return None if self.descriptor is None else self.descriptor(image)
