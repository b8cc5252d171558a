"""W_s-> and W_->d of the paper (A.1, Figure 9b): the sum z + e_s to a 3D displacement field."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from megaportraits.config import ModelConfig
from megaportraits.nn.adaptive import AdaptiveResBlock3D
from megaportraits.nn.blocks import BlockStyle, OutputHead
from megaportraits.ops.resample import upsample_volume


class NoWarp(nn.Module):
    """Replaces `WarpGenerator` in the ablation without w_s-> (B.4 b): no displacement and no parameters."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.size = (config.volume_depth, config.volume_size, config.volume_size)

    def forward(self, embedding: Tensor) -> Tensor:
        """As `WarpGenerator`: zeros (B, 3, D, H, W)."""
        zero = torch.zeros(len(embedding), 3, 1, 1, 1, device=embedding.device)
        return zero.expand(-1, -1, *self.size)


class WarpGenerator(nn.Module):
    """The expression part w^em of a warp; the rigid part w^rt is in `ops.warping`.

    The embedding z + e_s is the input (1x1 convolution, reshaped to a volume). It also modulates the adaptive norms of
    each ResBlock3D*. Tanh gives displacements of both signs. The last layer is initialised to zero, so that training
    starts from the rigid warp.
    """

    def __init__(self, config: ModelConfig, style: BlockStyle) -> None:
        super().__init__()
        w, embedding, positions = config.warp, config.descriptor, config.descriptor_grid**2
        self.depth, self.upsample = w.input_depth, w.upsample
        self.to_volume = style.project(2, embedding, w.inputs * w.input_depth)
        widths = (w.inputs, *w.widths)
        self.blocks = nn.ModuleList(
            AdaptiveResBlock3D(a, b, embedding, positions, style) for a, b in itertools.pairwise(widths)
        )
        self.output = OutputHead(3, widths[-1], 3, style)
        self.output.zero()

    def forward(self, embedding: Tensor) -> Tensor:
        """The map z + e_s (B, K, 4, 4) to displacements (B, 3, D, H, W) in [-1, 1], grid units, order (x, y, z)."""
        style = embedding.flatten(2)  # (B, K, 16)
        x = self.to_volume(embedding).unflatten(1, (-1, self.depth))  # (B, 512, 4, 4, 4)
        for block, factor in zip(self.blocks, self.upsample, strict=True):
            x = block(x, style)
            x = upsample_volume(x, factor)
        return torch.tanh(self.output(x).float())
