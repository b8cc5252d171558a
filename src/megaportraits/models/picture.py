"""Post-processing of a model's output."""

from __future__ import annotations

import torch
from torch import Tensor

from megaportraits.models.disocclusion import fill_disocclusions
from megaportraits.models.identity import Output
from megaportraits.models.source_skip import copy_large


def finish_picture(output: Output, fine: Tensor | None) -> Tensor:
    """The final image: disocclusions filled, and copied pixels at the source's resolution.

    `Avatar` and exported graphs both call this.

    Args:
        output: B images of S x S pixels.
        fine: (1 or B, 4, L, L) in [0, 1], the source's straight colours and alpha; L >= S. May be None without a source
            skip, which copies nothing.

    Returns:
        (B, 3 or 4, L, L) in [0, 1], straight colours, and alpha if the output has it; S x S without a source skip.
    """
    if fine is not None:
        output = fill_disocclusions(output, fine)
    picture = output.image if output.alpha is None else torch.cat([output.image, output.alpha], 1)
    if output.view is None or fine is None:
        return picture
    return copy_large(picture, fine[:, : picture.shape[1]], output.view)
