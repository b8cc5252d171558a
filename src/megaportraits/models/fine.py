"""Blocks that double G_2D's image: the "additional upsampling block" of B.2, and ours for models with source skip."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import ModelConfig
from megaportraits.models.modulation import Change, Modulation
from megaportraits.models.source_skip import FlowRefinement, NoCopy, SourceCopy, grow
from megaportraits.nn.blocks import BlockStyle, OutputHead, ResBlock
from megaportraits.ops.resample import shrink


@dataclass(frozen=True)
class Painting:
    """G_2D's state between blocks: features, logits of its outputs, and the copy of the source."""

    features: Tensor
    logits: Tensor
    copy: SourceCopy | NoCopy


class FineBlock(nn.Module):
    """Doubles the image and adds detail. Ours. At the start of training it adds none.

    The block refines the flow from the features, moves the source along the refined flow at the new resolution, and
    adds a residual, computed from both, to the upsampled logits.
    """

    def __init__(self, inputs: int, width: int, outputs: int, expression: int, style: BlockStyle) -> None:
        super().__init__()
        self.modulation = Modulation(expression, inputs)
        self.change = Change(expression, inputs)
        self.refinement = FlowRefinement(inputs, style)
        self.block = ResBlock(2, inputs + 3, width, style)
        self.output = OutputHead(2, width, outputs, style)
        self.output.zero()

    def forward(self, coarse: Painting, source: Tensor, z: Tensor, change: Tensor | None) -> Painting:
        """From S x S to 2S x 2S pixels; arguments as for `Generator2D`."""
        assert isinstance(coarse.copy, SourceCopy), "a fine block belongs to a source skip"
        size = 2 * coarse.logits.shape[-1]
        x = self.modulation(coarse.features, z, self.change(change))
        flow = self.refinement(x, coarse.copy.flow.grown(size))
        copy = SourceCopy.along(shrink(source, size), flow, coarse.copy.depth)
        x = self.block(copy.beside(F.interpolate(x, scale_factor=2, mode="nearest")))
        return Painting(x, grow(coarse.logits, size, "bilinear") + self.output(x).float(), copy)


class UpsamplingBlock(nn.Module):
    """Doubles the image without a source skip: the "additional upsampling block" of B.2. It starts at zero."""

    def __init__(self, inputs: int, width: int, outputs: int, style: BlockStyle) -> None:
        super().__init__()
        self.block = ResBlock(2, inputs, width, style)
        self.output = OutputHead(2, width, outputs, style)
        self.output.zero()

    def forward(self, coarse: Painting, source: Tensor | None, z: Tensor, change: Tensor | None) -> Painting:
        """From S x S to 2S x 2S pixels; uses only `coarse`."""
        x = self.block(F.interpolate(coarse.features, scale_factor=2, mode="nearest"))
        return Painting(x, grow(coarse.logits, x.shape[-1], "bilinear") + self.output(x).float(), coarse.copy)


def make_fine_blocks(config: ModelConfig, widths: Sequence[int], outputs: int, style: BlockStyle) -> nn.ModuleList:
    """One block for each pair of consecutive widths."""
    pairs = itertools.pairwise(widths)
    if config.source_skip:
        return nn.ModuleList(FineBlock(a, b, outputs, config.motion.expression_size, style) for a, b in pairs)
    return nn.ModuleList(UpsamplingBlock(a, b, outputs, style) for a, b in pairs)
