"""G_3D and G_2D of the paper (A.1, Figures 9c and 9d), and the orthographic projection P."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import ModelConfig
from megaportraits.models.source_skip import Flow, FlowRefinement, Origins, SourceSkip, SourceView, grow
from megaportraits.nn.blocks import BlockStyle, OutputHead, ResBlock
from megaportraits.ops.resample import downsample_volume, shrink, upsample_volume


def _resample(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Sample(z, x, y) of A.1: a stride 2 averages pairs, -2 doubles by interpolation."""
    down = (max(stride[0], 1), max(stride[1], 1), max(stride[2], 1))
    up = (max(-stride[0], 1), max(-stride[1], 1), max(-stride[2], 1))
    return upsample_volume(downsample_volume(x, down), up)


class Generator3D(nn.Module):
    """G_3D: a U-Net of ResBlock3Ds from the canonical volume to the canonical volume, same shape.

    Each skip between inner levels passes a ResBlock3D and is added: with the widths of Figure 9c this gives the
    paper's 57.8 M parameters, which concatenation (55.9 M) and plain addition (47.9 M) do not. The outermost skip is
    the plain volume: without it everything finer than half resolution would be lost here.
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
        """Canonical volume (B, C, D, H, W) to the same shape."""
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


class Modulation(nn.Module):
    """Each channel scaled and shifted by a linear function of z, or of z and more; starts as the identity."""

    def __init__(self, z: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(z, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, z: Tensor, more: Tensor | None = None) -> Tensor:
        """(B, C, H, W), z (B, n), and what else scales and shifts (B, 2 C), to (B, C, H, W)."""
        by = self.linear(z) if more is None else self.linear(z) + more
        scale, shift = by.to(x.dtype)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(shift, x, 1 + scale)


@dataclass(frozen=True)
class _Painting:
    """G_2D on its way from coarse to fine: features, logits of its outputs, and the flow with the source it moves."""

    features: Tensor
    logits: Tensor
    flow: Flow
    moved: Tensor


class FineBlock(nn.Module):
    """Doubles the image and adds detail to it. Ours; at the start it adds none.

    The flow is refined by what the features know, the source moved along it at the new resolution, and what the block
    makes of both is added to the enlarged logits.
    """

    def __init__(self, inputs: int, width: int, outputs: int, expression: int, style: BlockStyle) -> None:
        super().__init__()
        self.modulation = Modulation(expression, inputs)
        self.change = nn.Linear(expression, 2 * inputs, bias=False)
        nn.init.zeros_(self.change.weight)
        self.refinement = FlowRefinement(inputs, style)
        self.block = ResBlock(2, inputs + 3, width, style)
        self.output = OutputHead(2, width, outputs, style)
        self.output.zero()

    def forward(self, coarse: _Painting, source: Tensor, z: Tensor, change: Tensor | None) -> _Painting:
        """From images of S to those of 2 S pixels; `source` is (B, 3, 2 S, 2 S), the rest as for `Generator2D`."""
        size = source.shape[-1]
        x = self.modulation(coarse.features, z, None if change is None else self.change(change))
        flow = self.refinement(x, coarse.flow.grown(size))
        moved = flow.move(source)
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = self.block(torch.cat([x, moved.to(x.dtype)], 1))
        logits = grow(coarse.logits, size, "bilinear") + self.output(x).float()
        return _Painting(x, logits, flow, moved)


class UpsamplingBlock(nn.Module):
    """Doubles the image without a source skip, the "additional upsampling block" of B.2; at first it adds nothing."""

    def __init__(self, inputs: int, width: int, outputs: int, style: BlockStyle) -> None:
        super().__init__()
        self.block = ResBlock(2, inputs, width, style)
        self.output = OutputHead(2, width, outputs, style)
        self.output.zero()

    def forward(self, x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of S to those of 2 S pixels."""
        x = self.block(F.interpolate(x, scale_factor=2, mode="nearest"))
        return x, grow(logits, x.shape[-1], "bilinear") + self.output(x).float()


class Generator2D(nn.Module):
    """G_2D: 8 ResBlock2Ds at the volume's resolution, three upsampling blocks, 3x3 convolution, sigmoid.

    Four options are ours. With `expression_in_generator` z reaches G_2D directly: a volume with cells of a centimetre
    moves lips, but lids close within one cell. With `expression_change` it knows what z differs by from the source's:
    an eye that is as it was can be copied. With `source_skip` every upsampling block also sees the source's pixels
    moved to the driver's view, and one more output says where they are copied (`mirror_hidden`: or those of the other
    side of the head). With `refine_flow` the last block sees them moved more finely than the volume can say.
    `generator_2d.fine` adds blocks that double the image and begin without an effect (`FineBlock`, and without a source
    skip `UpsamplingBlock`).
    """

    def __init__(self, config: ModelConfig, style: BlockStyle) -> None:
        super().__init__()
        g, self.outputs = config.generator_2d, 4 if config.predict_matte else 3
        self.blocks = nn.Sequential(*(ResBlock(2, g.channels, g.channels, style) for _ in range(g.blocks)))
        self.skip = SourceSkip(g.channels, config.volume_depth) if config.source_skip else None
        widths, extra = (g.channels, *g.widths), 3 if config.source_skip else 0
        told = config.motion.expression_size
        modulated = (*(g.channels for _ in range(g.blocks)), *widths[:-1])
        self.modulations = (
            nn.ModuleList(Modulation(told, width) for width in modulated) if config.expression_in_generator else None
        )
        self.changes: nn.ModuleList | None = None
        if config.expression_change:
            self.changes = nn.ModuleList(nn.Linear(told, 2 * width, bias=False) for width in modulated)
            for change in self.changes:
                nn.init.zeros_(change.get_parameter("weight"))
        self.refinement = FlowRefinement(widths[-2], style) if config.source_skip and config.refine_flow else None
        self.up = nn.ModuleList(ResBlock(2, a + extra, b, style) for a, b in itertools.pairwise(widths))
        logits = self.outputs + (1 if config.source_skip else 0)
        self.output = OutputHead(2, widths[-1], logits, style)
        self.fine = nn.ModuleList(
            FineBlock(a, b, logits, told, style) if config.source_skip else UpsamplingBlock(a, b, logits, style)
            for a, b in itertools.pairwise((widths[-1], *g.fine))
        )

    def forward(
        self,
        features: Tensor,
        z: Tensor,
        source: Tensor | None = None,
        origins: Origins | None = None,
        change: Tensor | None = None,
    ) -> tuple[Tensor, SourceView | None]:
        """Projected features to the image, and with a source skip what was copied.

        Args:
            features: (B, channels, H, W).
            z: (B, `MotionConfig.expression_size`), the driver's expression; only read with `expression_in_generator`.
            source: (B, 3, S, S) in [0, 1], as large as the image; with a source skip only, as `origins`.
            origins: where in the source's view each voxel comes from.
            change: (B, n), z less the source's; only read with `expression_change`. None: nothing has changed.

        Returns:
            (B, 3 or 4, S, S) in [0, 1]: RGB and, if configured, alpha; S is H doubled once per width.
        """
        x = self._coarse(features, z, change)
        moved: Tensor | None = None
        if self.skip is not None:
            assert source is not None and origins is not None, "a source skip needs the source and its origins"
            coarse = shrink(source, source.shape[-1] // 2 ** len(self.fine))
            flow, depth = self.skip(x, origins, coarse.shape[-1])
            moved = flow.move(coarse)
        for index, block in enumerate(self.up, len(self.blocks)):
            x = self._modulated(x, z, change, index)
            if self.refinement is not None and source is not None and block is self.up[-1]:
                flow = self.refinement(x, flow)
                moved = flow.move(coarse)
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            if moved is not None:
                x = torch.cat([x, F.interpolate(moved, x.shape[-2:], mode="area").to(x.dtype)], 1)
            x = block(x)
        logits = self.output(x).float()
        if moved is None:
            for block in self.fine:
                x, logits = block(x, logits)
            return logits.sigmoid(), None
        assert source is not None
        picture = _Painting(x, logits, flow, moved)
        for number, block in enumerate(self.fine, 1):
            size = coarse.shape[-1] * 2**number
            picture = block(picture, shrink(source, size), z, change)
        x, flow, moved = picture.logits.sigmoid(), picture.flow, picture.moved
        painted, alpha, copied = x[:, :3], x[:, 3 : self.outputs], x[:, self.outputs :]
        image = torch.cat([copied * moved + (1 - copied) * painted, alpha], 1)
        return image, SourceView(moved, flow, depth, copied, painted)

    def visible_depth(self, features: Tensor, z: Tensor) -> Tensor:
        """Of the source's own view, whose expression is z: depth of the visible surface, (B, H, W), grid units."""
        assert self.skip is not None, "only a source skip knows a surface"
        return self.skip.depth(self._coarse(features, z, None))

    def _coarse(self, features: Tensor, z: Tensor, change: Tensor | None) -> Tensor:
        x = features
        for index, block in enumerate(self.blocks):
            x = block(self._modulated(x, z, change, index))
        return x

    def _modulated(self, x: Tensor, z: Tensor, change: Tensor | None, index: int) -> Tensor:
        if self.modulations is None:
            return x
        more = None if self.changes is None or change is None else self.changes[index](change)
        return self.modulations[index](x, z, more)
