"""G_3D and G_2D of the paper (A.1, Figures 9c and 9d), and the orthographic projection P."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import ModelConfig
from megaportraits.models.fine import Painting, make_fine_blocks
from megaportraits.models.modulation import make_modulations
from megaportraits.models.source_skip import (
    FlowRefinement,
    NoCopy,
    NoSkip,
    Origins,
    SourceCopy,
    SourceSkip,
    SourceView,
    Unrefined,
)
from megaportraits.nn.blocks import BlockStyle, OutputHead, ResBlock
from megaportraits.ops.resample import downsample_volume, upsample_volume


def _resample(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Sample(z, x, y) of A.1: a stride 2 averages pairs, -2 doubles by interpolation."""
    down = (max(stride[0], 1), max(stride[1], 1), max(stride[2], 1))
    up = (max(-stride[0], 1), max(-stride[1], 1), max(-stride[2], 1))
    return upsample_volume(downsample_volume(x, down), up)


class Generator3D(nn.Module):
    """G_3D: a U-Net of ResBlock3Ds from the canonical volume to the canonical volume, same shape.

    Each skip between inner levels has a ResBlock3D, whose output is added. With the widths of Figure 9c this gives the
    paper's 57.8 M parameters; concatenation (55.9 M) and plain addition (47.9 M) do not. The outermost skip adds the
    input volume itself: without it all detail finer than half resolution would be lost.
    """

    def __init__(self, config: ModelConfig, style: BlockStyle) -> None:
        super().__init__()
        g, channels = config.generator_3d, config.volume_channels
        self.strides = g.strides
        widths = (channels, *g.widths)
        self.down = nn.ModuleList(ResBlock(3, a, b, style) for a, b in itertools.pairwise(widths))
        self.bottleneck = nn.Sequential(
            *(ResBlock(3, widths[-1], widths[-1], style) for _ in range(g.bottleneck_blocks))
        )
        self.up = nn.ModuleList(ResBlock(3, b, a, style) for a, b in itertools.pairwise(widths))
        self.skips = nn.ModuleList(ResBlock(3, w, w, style) for w in widths[1:-1])
        self.output = OutputHead(3, channels, channels, style)

    def forward(self, volume: Tensor) -> Tensor:
        """Canonical volume (B, C, D, H, W) to a canonical volume of the same shape."""
        x, levels = volume, []
        for block, stride in zip(self.down, self.strides, strict=True):
            x = block(_resample(x, stride))
            levels.append(x)
        x = self.bottleneck(x)
        for index in reversed(range(len(self.up))):
            stride = self.strides[index]
            x = _resample(self.up[index](x), (-stride[0], -stride[1], -stride[2]))
            x = x + (self.skips[index - 1](levels[index - 1]) if index > 0 else volume)
        return self.output(x)


class Projection(nn.Module):
    """P: "consists of reshape operation and 1x1 convolution" (A.1), so the order along depth matters."""

    def __init__(self, config: ModelConfig, style: BlockStyle) -> None:
        super().__init__()
        self.conv = style.project(2, config.volume_channels * config.volume_depth, config.generator_2d.channels)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, channels, H, W)."""
        return self.conv(volume.flatten(1, 2))


class Generator2D(nn.Module):
    """G_2D: 8 ResBlock2Ds at the volume's resolution, three upsampling blocks, 3x3 convolution, sigmoid.

    The paper's G_2D consists of `blocks`, `up` and `output`. The other submodules are ours: `modulations` and `changes`
    (`models.modulation`), the source skip `skip` and its `refinement` (`models.source_skip`), and the `fine` blocks,
    each of which doubles the image (`models.fine`). A module that does nothing replaces one that is switched off.
    """

    def __init__(self, config: ModelConfig, style: BlockStyle) -> None:
        super().__init__()
        g, self.outputs = config.generator_2d, 4 if config.predict_matte else 3
        widths = (g.channels, *g.widths)
        self.blocks = nn.ModuleList(ResBlock(2, g.channels, g.channels, style) for _ in range(g.blocks))
        self.skip = SourceSkip(config) if config.source_skip else NoSkip()
        self.modulations, self.changes = make_modulations(config, (*[g.channels] * g.blocks, *widths[:-1]))
        refines = config.source_skip and config.refine_flow
        self.refinement = FlowRefinement(widths[-2], style) if refines else Unrefined()
        self.up = nn.ModuleList(ResBlock(2, a + self.skip.channels, b, style) for a, b in itertools.pairwise(widths))
        logits = self.outputs + self.skip.logits
        self.output = OutputHead(2, widths[-1], logits, style)
        self.fine = make_fine_blocks(config, (widths[-1], *g.fine), logits, style)

    def forward(
        self,
        features: Tensor,
        z: Tensor,
        source: Tensor | None = None,
        origins: Origins | None = None,
        change: Tensor | None = None,
    ) -> tuple[Tensor, SourceView | None]:
        """Projected features to the image, and with a source skip to the `SourceView`.

        Args:
            features: (B, channels, H, W).
            z: (B, `MotionConfig.expression_size`), the driver's expression; only read with `expression_in_generator`.
            source: (B, 3, S, S) in [0, 1], as large as the image; only with a source skip.
            origins: where in the source's view each voxel comes from; only with a source skip.
            change: (B, n), z minus the source's z; only read with `expression_change`. None stands for no change.

        Returns:
            The image (B, 3 or 4, S, S) in [0, 1], RGB and, if configured, alpha, where S is H doubled once for each
            width; and the `SourceView`, None without a source skip.
        """
        x = self._coarse(features, z, change)
        copy: SourceCopy | NoCopy = self.skip(x, source, origins)
        for index, block in enumerate(self.up, len(self.blocks)):
            x = self._modulated(x, z, change, index)
            if block is self.up[-1]:  # the finest features
                copy = copy.refined(self.refinement, x)
            x = block(copy.beside(F.interpolate(x, scale_factor=2, mode="nearest")))
        painting = Painting(x, self.output(x).float(), copy)
        for fine in self.fine:
            painting = fine(painting, source, z, change)
        return painting.copy.compose(painting.logits, self.outputs)

    def visible_depth(self, features: Tensor, z: Tensor) -> Tensor:
        """Depth of the visible surface in the source's own view, whose expression is z: (B, H, W), grid units."""
        return self.skip.depth(self._coarse(features, z, None))

    def _coarse(self, features: Tensor, z: Tensor, change: Tensor | None) -> Tensor:
        x = features
        for index, block in enumerate(self.blocks):
            x = block(self._modulated(x, z, change, index))
        return x

    def _modulated(self, x: Tensor, z: Tensor, change: Tensor | None, index: int) -> Tensor:
        modulated: Tensor = self.modulations[index](x, z, self.changes[index](change))
        return modulated
