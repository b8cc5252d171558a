"""Keypoints from heat maps, and the dense motion that they define (Siarohin et al., 2019, 3.1 and 3.2).

All coordinates are crop coordinates (borders at +-1; `docs/conventions.md`), so that they do not depend on resolutions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from megaportraits.baselines.base import autocast_off
from megaportraits.config import HourglassConfig
from megaportraits.nn.blocks import BlockStyle, make_conv
from megaportraits.nn.hourglass import Hourglass
from megaportraits.ops.shapes import check_shape
from megaportraits.ops.warping import cell_centres, sample_at

HEAT_VARIANCE = 0.01
"""Variance of the Gaussian heat maps that the dense motion network sees."""


def make_hourglass(dim: int, inputs: int, config: HourglassConfig, style: BlockStyle) -> Hourglass:
    """The hourglass of a config."""
    return Hourglass(dim, inputs, width=config.width, most=config.most, levels=config.levels, style=style)


def heat_maps(logits: Tensor, temperature: float) -> Tensor:
    """Softmax over the cells of each map (B, K, ...), in float32."""
    return (logits.float().flatten(2) / temperature).softmax(-1).reshape(logits.shape)


def expected_positions(heat: Tensor) -> Tensor:
    """The mean position of heat maps (B, K, H, W) or (B, K, D, H, W): (B, K, 2) or (B, K, 3), crop coordinates."""
    cells = cell_centres(tuple(heat.shape[2:]), heat).flatten(0, -2)  # (N, dim)
    return (heat.flatten(2)[..., None] * cells).sum(2)


def gaussians(positions: Tensor, size: tuple[int, ...]) -> Tensor:
    """Gaussian heat maps (B, K, *size) of `HEAT_VARIANCE`, 1 at their positions (B, K, dim)."""
    cells = cell_centres(size, positions)
    centers = positions.reshape(*positions.shape[:2], *[1] * len(size), -1)
    return (-(cells - centers).square().sum(-1) / (2 * HEAT_VARIANCE)).exp()


def transformed(linear: Tensor, points: Tensor) -> Tensor:
    """Matrices (..., n, n) times points (..., n); not a matmul, which autocast would run in bfloat16."""
    return (linear * points[..., None, :]).sum(-1)


@dataclass(frozen=True)
class SparseMotion:
    """The motion near each keypoint: T_k(z) = s_k + L_k (z - d_k) maps driver positions to source positions (eq. 4).

    Attributes:
        source: s, (B, K, dim).
        driver: d, (B, K, dim).
        linear: L, (B, K, dim, dim).
    """

    source: Tensor
    driver: Tensor
    linear: Tensor

    def fields(self, size: tuple[int, ...]) -> Tensor:
        """T_k(z) at the cells of a map, (B, K + 1, *size, dim). Field 0 is the identity, for the background."""
        batch, count, dim = self.source.shape
        cells = cell_centres(size, self.source)
        around = (batch, count, *[1] * len(size))
        offset = cells - self.driver.reshape(*around, dim)
        moved = transformed(self.linear.reshape(*around, dim, dim), offset) + self.source.reshape(*around, dim)
        return torch.cat([cells.expand(batch, 1, *cells.shape), moved], 1)


@dataclass(frozen=True)
class DenseFlow:
    """The result of `DenseMotion`.

    Attributes:
        flow: (B, *size, dim), crop coordinates: where each cell of the driver's view comes from in the source.
        masks: (B, K + 1, *size), the weights of the background and of the keypoints' fields; they sum to 1.
        occlusion: (B, 1, h, w) in [0, 1].
    """

    flow: Tensor
    masks: Tensor
    occlusion: Tensor


class DenseMotion(nn.Module):
    """Combines the keypoints' motions to one flow, and predicts where the source is occluded (3.2).

    The input has for each field the difference of the Gaussian heat maps of driver and source, and the source's values
    moved by the field.

    Args:
        dim: 2 for images, 3 for volumes.
        channels: channels of the values.
        keypoints: number of keypoints.
        depth: depth of the values; 1 for images.
        config: the hourglass.
        kernel: kernel size of the last convolutions.
        style: for the groups of the norms.
    """

    def __init__(
        self,
        dim: int,
        channels: int,
        keypoints: int,
        depth: int,
        config: HourglassConfig,
        *,
        kernel: int,
        style: BlockStyle,
    ) -> None:
        super().__init__()
        self.dim, self.channels = dim, channels
        self.hourglass = make_hourglass(dim, (keypoints + 1) * (channels + 1), config, style)
        self.mask = make_conv(dim, self.hourglass.channels, keypoints + 1, kernel)
        self.occlusion = make_conv(2, self.hourglass.channels * depth, 1, kernel)

    def forward(self, values: Tensor, motion: SparseMotion) -> DenseFlow:
        """Source values (B, channels, *size) and the keypoints' motion to the flow."""
        check_shape(values, "values", len(motion.source), self.channels, *"DHW"[-self.dim :])
        size = tuple(values.shape[2:])
        with autocast_off(values):
            fields = motion.fields(size)
            heat = gaussians(motion.driver, size) - gaussians(motion.source, size)
        heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], 1)
        moved = [sample_at(values, field) for field in fields.unbind(1)]
        seen = torch.cat([heat.to(values.dtype), *moved], 1)
        features = self.hourglass(seen)
        masks = self.mask(features).float().softmax(1)
        flow = (fields * masks[..., None]).sum(1)
        occlusion = self.occlusion(features if self.dim == 2 else features.flatten(1, 2)).float().sigmoid()
        return DenseFlow(flow, masks, occlusion)
