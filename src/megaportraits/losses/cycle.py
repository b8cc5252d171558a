"""The enhancer's cycle consistency (eq. 9): an enhanced image, downsampled, must equal the enhancer's input."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from megaportraits.errors import ShapeError


def low_resolution_cycle(low: Tensor, high: Tensor, *, factor: int) -> Tensor:
    """L_MAE(DS_k(x), DS_2k(x^HR)); average pooling brings both to the same size.

    Args:
        low: (B, C, S, S), the base model's image; no gradient goes to it.
        high: (B, C, 2S, 2S), the enhanced image.
        factor: k; 4 in the paper.

    Returns:
        Scalar.

    Raises:
        ShapeError: `high` is not twice as large, or S is not a multiple of k.
    """
    size = low.shape[-1]
    if high.shape[-1] != 2 * size or size % factor:
        raise ShapeError(
            f"expected an image twice as large as {tuple(low.shape)}, which {factor} divides, got {tuple(high.shape)}",
            fix="Choose loss.cycle_factor as a divisor of the base model's image_size.",
        )
    small = low.detach().float() if factor == 1 else F.avg_pool2d(low.detach().float(), factor)
    return F.l1_loss(F.avg_pool2d(high.float(), 2 * factor), small)
