"""G_enh of the paper (3.2, A.2, Figure 10): the base model's image at twice its resolution.

In this module a *picture* is RGB premultiplied with alpha, and alpha: (B, 4, S, S). For base models that predict no
matte it is RGB alone, (B, 3, S, S). Premultiplied colours can be resampled without errors at edges, and compositing
them over a colour is linear.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import EnhancerConfig, HiFaceGanConfig
from megaportraits.errors import ConfigError
from megaportraits.models.identity import Output
from megaportraits.models.source_skip import Flow, copy_large
from megaportraits.nn.blocks import BlockStyle, OutputHead, ResBlock, make_conv
from megaportraits.ops import compositing
from megaportraits.ops.shapes import check_shape


class PictureEnhancer(nn.Module):
    """A network that doubles a base model's image: G_enh, or a method to compare with."""

    config: EnhancerConfig | HiFaceGanConfig

    def forward(self, picture: Tensor, fine: Tensor | None = None) -> Tensor:
        """See `Enhancer.forward`."""
        raise NotImplementedError


class Enhancer(PictureEnhancer):
    """Encoder, residual blocks at its lowest resolution, and decoder to twice the image size; see `EnhancerConfig`.

    With `residual` the last layer is initialised to zero, so that training starts from bicubic upsampling, or with
    `source_skip` from `fine_picture`. Alpha is then not changed: only the base model predicts it.
    """

    def __init__(self, config: EnhancerConfig) -> None:
        super().__init__()
        self.config: EnhancerConfig = config
        style = BlockStyle(config.groups, config.weight_standardization)
        self.channels = 4 if config.matte else 3
        # `fine` has the output's resolution. Without `upsample_input` it is unshuffled: four of its pixels per pixel.
        per_pixel = 1 if config.upsample_input else 4
        inputs = self.channels * (1 + per_pixel * int(config.source_skip))
        self.stem = make_conv(2, inputs, config.stem, config.kernel)
        widths = (config.stem, *config.widths)
        self.down = nn.ModuleList(ResBlock(2, a, b, style) for a, b in itertools.pairwise(widths))
        self.norm = style.norm(widths[-1])
        self.project = style.project(2, widths[-1], config.channels)
        self.blocks = nn.Sequential(
            *(ResBlock(2, config.channels, config.channels, style) for _ in range(config.blocks))
        )
        widths = (config.channels, *config.up)
        self.up = nn.ModuleList(ResBlock(2, a, b, style) for a, b in itertools.pairwise(widths))
        widths = (widths[-1], *config.high)
        self.high = nn.Sequential(*(ResBlock(2, a, b, style) for a, b in itertools.pairwise(widths)))
        written = 3 if config.alpha_stays else self.channels
        self.output = OutputHead(2, widths[-1], written * config.shuffle**2, style)
        if config.residual:
            self.output.zero()

    def forward(self, picture: Tensor, fine: Tensor | None = None) -> Tensor:
        """The picture at twice its size.

        Args:
            picture: (B, 3 or 4, S, S), from `picture_of`.
            fine: (B, 3 or 4, 2S, 2S), from `fine_picture`; needed with `source_skip`, else ignored.

        Returns:
            (B, 3 or 4, 2S, 2S). With `residual`, colours may exceed [0, 1] a little.

        Raises:
            ShapeError: an input has another shape.
            ConfigError: `fine` is missing.
        """
        check_shape(picture, "picture", "B", self.channels, "S", "S")
        size = picture.shape[-1] * 2
        if self.config.source_skip:
            if fine is None:
                raise ConfigError(
                    "this enhancer was made to see the source's moved detail, and none came",
                    fix="Use a base model with source_skip, or an enhancer without.",
                )
            check_shape(fine, "fine", len(picture), self.channels, size, size)
        else:
            fine = None
        x = self.decode(*self.encode(picture, fine)).float().tanh()
        if not self.config.residual:
            return (x + 1) / 2
        start = start_of(picture, fine)
        if not self.config.alpha_stays:
            return start + x
        alpha = start[:, 3:]
        return torch.cat([start[:, :3] + alpha * x, alpha], 1)

    def encode(self, picture: Tensor, fine: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The features at the lowest resolution, and those before each pooling."""
        x = picture * 2 - 1
        if self.config.upsample_input:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        if fine is not None:
            pixels = fine * 2 - 1
            x = torch.cat([x, pixels if self.config.upsample_input else F.pixel_unshuffle(pixels, 2)], 1)
        x, levels = self.stem(x), []
        for block, halves in zip(self.down, self.config.pool, strict=True):
            x = block(x)
            if halves:
                levels.append(x)
                x = F.avg_pool2d(x, 2)
        return self.project(F.relu(self.norm(x), inplace=True)), levels

    def decode(self, features: Tensor, levels: list[Tensor]) -> Tensor:
        """The output of the last layer, at full size."""
        x = self.blocks(features)
        for block in self.up:
            x = block(F.interpolate(x, scale_factor=2, mode="nearest"))
            if self.config.skips and levels:
                x = x + levels.pop()
        x = self.output(self.high(x))
        return x if self.config.shuffle == 1 else F.pixel_shuffle(x, 2)


def picture_of(output: Output) -> Tensor:
    """Convert a base model's output to a picture, (B, 4, S, S) with alpha, (B, 3, S, S) without."""
    image = output.image.float()
    return image if output.alpha is None else premultiplied(torch.cat([image, output.alpha.float()], 1))


def fine_picture(output: Output, source: Tensor) -> Tensor:
    """A base model's output at twice its size, as a picture. Copied pixels are copied again from a larger source.

    Args:
        output: output of a base model with `source_skip`, S x S pixels.
        source: (B or 1, 3 or 4, 2S, 2S), the source's straight colours, and alpha where the output has one.
    """
    assert output.view is not None, "fine pictures need a base model with source_skip"
    image = output.image if output.alpha is None else torch.cat([output.image, output.alpha], 1)
    fine = copy_large(image.float(), source, output.view)
    return fine if output.alpha is None else premultiplied(fine)


def premultiplied(straight: Tensor) -> Tensor:
    """Convert straight colours and alpha (B, 4, H, W) to a picture."""
    return torch.cat([straight[:, :3] * straight[:, 3:], straight[:, 3:]], 1)


def grow(picture: Tensor, size: int) -> Tensor:
    """A picture bicubically upsampled to a side of `size` pixels: the baseline of an enhancer."""
    return F.interpolate(picture.float(), (size, size), mode="bicubic", align_corners=False)


def start_of(picture: Tensor, fine: Tensor | None) -> Tensor:
    """The picture to which residuals are added, (B, 3 or 4, 2S, 2S); arguments as for an `Enhancer`."""
    return grow(picture, 2 * picture.shape[-1]) if fine is None else fine.float()


def over(picture: Tensor, color: Tensor) -> Tensor:
    """Composite a picture over a flat colour (B, 3, 1, 1); unchanged without alpha."""
    return compositing.over(picture[:, :3], picture[:, 3:], color) if picture.shape[1] == 4 else picture


def move_source(source: Tensor, flow: Flow) -> Tensor:
    """Move a source along the base model's flow, at the source's size. It is sampled at twice that size to stay sharp.

    Args:
        source: (B, C, N, N), the source's head crop.
        flow: the flow of `models.source_skip.SourceView`.

    Returns:
        (B, C, N, N) in [0, 1].
    """
    check_shape(flow.direct, "flow", len(source), 2, "S", "S")
    large = 2 * source.shape[-1]
    return F.avg_pool2d(flow.grown(large).move(grow(source, large)), 2).clamp(0, 1)
