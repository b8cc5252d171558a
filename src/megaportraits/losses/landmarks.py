"""Distances between landmarks. Ours."""

from __future__ import annotations

from torch import Tensor


def landmark_distance(points: Tensor, labels: Tensor) -> Tensor:
    """Mean of |dx| + |dy| over known points.

    Args:
        points: (B, N, 2), any unit.
        labels: (B, N, 2), the same unit; NaN where they are not known.

    Returns:
        Scalar in that unit; 0 with gradient where nothing is known.
    """
    known = labels.isfinite().all(-1)
    error = (points - labels.nan_to_num()).abs().sum(-1)
    return (error * known).sum() / known.sum().clamp_min(1)


def openings(loop: Tensor) -> Tensor:
    """Vectors (B, N / 2 - 1, 2) between opposite points of a loop (B, N, 2) that begins in one corner.

    Half-way round lies the other corner: point i lies opposite point N - i.
    """
    half = loop.shape[1] // 2
    return loop[:, 1:half] - loop[:, half + 1 :].flip(1)
