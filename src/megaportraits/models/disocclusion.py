"""Parts of a person that the source hides: what a source skip cannot show, and its flat background stains. Ours.

Where a head turns far, the flow ends beside the person in the source. G_2D then paints a cheek, but its colours are
stained by the flat one that it sees there.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.models.identity import Output

_SHOWN = 0.9
"""A pixel whose surroundings show at least so much of the source's person is free of its background."""


def fill_disocclusions(output: Output, source: Tensor) -> Output:
    """An output whose hidden parts take the colours around them; how they are shaded is lost.

    Args:
        output: of B images of S x S pixels; without a view or an alpha it comes back as it is.
        source: (B or 1, 4, L, L) in [0, 1], the person's straight colours and matte, in the model's crop.

    Returns:
        The same with these parts filled, and with nothing copied there.
    """
    if output.view is None or output.alpha is None:
        return output
    size = output.image.shape[-1]
    wide = size // 25 | 1  # pixels
    matte = F.interpolate(source[:, 3:], (size, size), mode="area").expand(len(output.image), -1, -1, -1)
    shown = _eroded(output.view.flow.move(matte), wide)
    beside = (1 - shown) * _eroded(output.alpha, size // 42 | 1)
    # What is not wide is an outline that is off by a pixel, and no hidden part.
    hidden = beside * (3 * _dilated(_eroded(beside, wide), 2 * wide - 1)).clamp(0, 1)
    known = (1 - hidden) * (shown > _SHOWN) * (output.alpha > 0.5)
    image = torch.lerp(output.image, _filled(output.image, known), hidden)
    return replace(output, image=image, view=replace(output.view, copied=output.view.copied * (1 - hidden)))


def _filled(image: Tensor, known: Tensor) -> Tensor:
    """Unknown pixels of (B, 3, H, W) from known ones (B, 1, H, W in [0, 1]) around them, coarse to fine."""
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
