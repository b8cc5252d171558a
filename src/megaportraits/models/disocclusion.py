"""Filling of disocclusions, which the source skip cannot copy from the source. Ours.

If the head turns far, the flow of a disocclusion points beside the person in the source. G_2D then generates a cheek,
for example, but tints it with the flat background colour to which the flow points.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.models.identity import Output

_SHOWN = 0.9
"""A pixel has no background colour of the source if the eroded, moved matte of the source is larger than this."""


def fill_disocclusions(output: Output, source: Tensor) -> Output:
    """Fill the disocclusions of an output with the colours around them. Their shading is lost.

    Args:
        output: B images of S x S pixels; returned unchanged if it has no view or no alpha.
        source: (B or 1, 4, L, L) in [0, 1], the person's straight colours and matte, in the model's crop.

    Returns:
        The output with filled disocclusions, in which nothing is copied from the source.
    """
    if output.view is None or output.alpha is None:
        return output
    size = output.image.shape[-1]
    wide = size // 25 | 1  # pixels
    matte = F.interpolate(source[:, 3:], (size, size), mode="area").expand(len(output.image), -1, -1, -1)
    shown = _eroded(output.view.flow.move(matte), wide)
    beside = (1 - shown) * _eroded(output.alpha, size // 42 | 1)
    # Narrow areas are outlines that are off by about a pixel, not disocclusions.
    hidden = beside * (3 * _dilated(_eroded(beside, wide), 2 * wide - 1)).clamp(0, 1)
    known = (1 - hidden) * (shown > _SHOWN) * (output.alpha > 0.5)
    image = torch.lerp(output.image, _filled(output.image, known), hidden)
    return replace(output, image=image, view=replace(output.view, copied=output.view.copied * (1 - hidden)))


def _filled(image: Tensor, known: Tensor) -> Tensor:
    """Fill pixels of (B, 3, H, W) that are not `known` (B, 1, H, W) in [0, 1] from those around, coarse to fine."""
    if image.shape[-1] <= 2:
        total = known.sum((2, 3), keepdim=True).clamp_min(1e-6)
        return ((image * known).sum((2, 3), keepdim=True) / total).expand_as(image)
    share = F.avg_pool2d(known, 2)
    coarse = _filled(F.avg_pool2d(image * known, 2) / share.clamp_min(1e-6), (4 * share).clamp(0, 1))
    return torch.lerp(F.interpolate(coarse, image.shape[-2:], mode="bilinear", align_corners=False), image, known)


def _eroded(x: Tensor, size: int) -> Tensor:
    return -_dilated(-x, size)


def _dilated(x: Tensor, size: int) -> Tensor:
    return F.max_pool2d(x, size, stride=1, padding=size // 2)
