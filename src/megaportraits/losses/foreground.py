"""Compositing and weighted L1 for losses on the foreground only, "in both predictions and the ground truth" (3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.resample import fit_input

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
MOUTH_CM: Box = ((-1.0, 3.6), (-6.2, -1.6), (4.0, 16.0))
EYES_CM: Box = ((1.2, 5.0), (2.2, 5.6), (5.0, 16.0))
"""Boxes of |x|, y and z on the neutral head, centimetres."""

EYES_TO_MOUTH = 3.0
"""Weight of a pixel of the eyes relative to one of the mouth; lids have a fifth of an open mouth's area."""


def masked_l1(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute error, weighted by a map (B, 1, H, W) that is normalised to mean 1."""
    error = (prediction.float() - target.float()).abs()
    if weight is None:
        return error.mean()
    weight = weight.float()
    return (error * weight).sum() / (weight.sum() * error.shape[1]).clamp_min(1e-6)


def in_box(coords: Tensor, box: Box) -> Tensor:
    """Whether surface points (..., 3 or more: canonical X, Y, Z in crop units, y down) lie in a box: (...) bool."""
    centimetres = coords[..., :3] * coords.new_tensor([HEAD_HALF_CM, -HEAD_HALF_CM, HEAD_HALF_CM])
    centimetres = torch.cat([centimetres[..., :1].abs(), centimetres[..., 1:]], -1)
    low, high = coords.new_tensor(box).unbind(1)
    return ((centimetres > low) & (centimetres < high)).all(-1)


def feature_weight(coords: Tensor, valid: Tensor, size: int, *, emphasis: float) -> Tensor:
    """A weight map: 1 + emphasis in the mouth, 1 + `EYES_TO_MOUTH` * emphasis in the eyes, 1 elsewhere. Ours.

    Mouth and eyes are few pixels, but they carry most of the expression.

    Args:
        coords: (B, h, w, 4), canonical X, Y, Z (crop units, y down) and depth of the visible surface.
        valid: (B, h, w) bool.
        size: side of the images, pixels.
        emphasis: additional weight of a pixel of the mouth.

    Returns:
        (B, 1, size, size).
    """
    features = in_box(coords, MOUTH_CM) + EYES_TO_MOUTH * in_box(coords, EYES_CM)
    weight = 1 + emphasis * (features * valid)[:, None]
    return fit_input(weight, size)
