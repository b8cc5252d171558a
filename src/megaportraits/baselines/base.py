"""What all baselines have: their interface, their images, and the generator after the warp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import BaselineModelConfig
from megaportraits.nn.blocks import BlockStyle, ResBlock, make_conv
from megaportraits.nn.hourglass import UpBlocks, encoder_widths
from megaportraits.ops.warping import sample_at

E = TypeVar("E")
M = TypeVar("M", bound="Transferable")


class Transferable(Protocol):
    """A motion that can be transferred relatively."""

    def relative(self, first: Self, source: Self) -> Self:
        """The source's motion, changed as this motion differs from `first`, the first frame of the same driver."""


@dataclass(frozen=True)
class BaselineOutput:
    """Images of a baseline.

    Attributes:
        image: (B, 3, S, S) in [0, 1]; straight colours when there is an alpha.
        alpha: (B, 1, S, S) in [0, 1], or None when the model predicts no matte.
        flow: where each cell of the warped features comes from, crop coordinates: (B, h, w, 2), or (B, d, h, w, 3) for
            volumes.
        occlusion: (B, 1, h, w) in [0, 1], 0 where the source does not show what the driver does.
    """

    image: Tensor
    alpha: Tensor | None
    flow: Tensor
    occlusion: Tensor

    def over(self, color: Tensor) -> Tensor:
        """Composite the image over a flat colour (B, 3, 1, 1); unchanged without alpha."""
        return self.image if self.alpha is None else self.image * self.alpha + color * (1 - self.alpha)


class Baseline(nn.Module, Generic[E, M]):
    """A model that renders a source image with the motion of driver images.

    `E` is an encoded source, `M` a motion.
    """

    config: BaselineModelConfig

    def encode(self, source: Tensor) -> E:
        """Encode sources (B, 3, S, S) in [0, 1]."""
        raise NotImplementedError

    def motion(self, driver: Tensor) -> M:
        """The motion of drivers (B, 3, S, S) in [0, 1]."""
        raise NotImplementedError

    def own_motion(self, encoded: E) -> M:
        """The motion of the sources themselves."""
        raise NotImplementedError

    def render(self, encoded: E, motion: M) -> BaselineOutput:
        """Encoded sources with motions of as many drivers."""
        raise NotImplementedError

    def forward(self, source: Tensor, driver: Tensor) -> BaselineOutput:
        """The source with the driver's absolute motion."""
        return self.render(self.encode(source), self.motion(driver))


class WarpedGenerator(nn.Module):
    """Warped features to the image: residual blocks, upsampling blocks, a 7x7 convolution and a sigmoid."""

    def __init__(self, config: BaselineModelConfig, style: BlockStyle) -> None:
        super().__init__()
        widths = (min(config.most, config.width), *encoder_widths(config.width, config.most, config.halvings))
        self.blocks = nn.Sequential(*(ResBlock(2, widths[-1], widths[-1], style) for _ in range(config.blocks)))
        self.up = UpBlocks(2, widths[::-1], style)
        self.output = make_conv(2, widths[0], 4 if config.predict_matte else 3, 7)

    def forward(self, features: Tensor, occlusion: Tensor) -> tuple[Tensor, Tensor | None]:
        """Warped features (B, C, h, w) and their occlusion map to image and alpha of a `BaselineOutput`."""
        image = self.output(self.up(self.blocks(masked(features, occlusion)))).float().sigmoid()
        return image[:, :3], image[:, 3:] if image.shape[1] == 4 else None


def masked(features: Tensor, occlusion: Tensor) -> Tensor:
    """Features (B, C, h, w) times an occlusion map of any size."""
    return features * resized_map(occlusion, features.shape[-1]).to(features.dtype)


def resized_map(values: Tensor, size: int) -> Tensor:
    """A map (B, C, h, w) resampled to `size` x `size` cells."""
    if values.shape[-1] == size:
        return values
    return F.interpolate(values, (size, size), mode="bilinear", align_corners=False)


def warped(features: Tensor, flow: Tensor) -> Tensor:
    """Features (B, C, H, W), moved by a flow (B, h, w, 2) in crop coordinates, which is resampled to their size."""
    grown = resized_map(flow.permute(0, 3, 1, 2), features.shape[-1]).permute(0, 2, 3, 1)
    return sample_at(features, grown)


def autocast_off(like: Tensor) -> torch.autocast:
    """A context without autocast: bfloat16 resolves coordinates to half a pixel only."""
    return torch.autocast(like.device.type, enabled=False)
