"""Distances between landmarks. Ours."""

from __future__ import annotations

from torch import Tensor


def landmark_distance(points: Tensor, labels: Tensor) -> Tensor:
    """Mean of |dx| + |dy| over known points.

    Args:
        points: (B, N, 2), any unit.
        labels: (B, N, 2), the same unit; NaN where unknown.

    Returns:
        Scalar in that unit; 0 with gradient if no point is known.
    """
    known = labels.isfinite().all(-1)
    error = (points - labels.nan_to_num()).abs().sum(-1)
    return (error * known).sum() / known.sum().clamp_min(1)


def openings(loop: Tensor) -> Tensor:
    """Vectors (B, N / 2 - 1, 2) between opposite points of a closed outline (B, N, 2) of an eye or a mouth.

    Point 0 is one corner and point N / 2 the other. Point i is opposite point N - i.
    """
    half = loop.shape[1] // 2
    return loop[:, 1:half] - loop[:, half + 1 :].flip(1)
