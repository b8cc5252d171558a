"""Numbers for pictures and for motion; plain functions without a protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megaportraits.errors import ShapeError

MIN_PAIRS = 8
"""Fewer common frames say nothing about a correlation."""


def psnr(
    image: npt.NDArray[np.generic],
    truth: npt.NDArray[np.generic],
    mask: npt.NDArray[np.bool_] | None = None,
    *,
    peak: float = 255.0,
) -> float:
    """Peak signal-to-noise ratio, decibels; infinite for equal pictures.

    Args:
        image: (H, W) or (H, W, C).
        truth: the same shape.
        mask: (H, W), where to compare; None compares everywhere. With an empty mask the result is NaN.
        peak: the largest possible value.

    Raises:
        ShapeError: the shapes do not fit.
    """
    if image.shape != truth.shape or image.ndim not in (2, 3):
        raise ShapeError(f"Expected two pictures (H, W) or (H, W, C) of one shape, got {image.shape}, {truth.shape}.")
    difference = image.astype(np.float64) - truth.astype(np.float64)
    if mask is not None:
        if mask.shape != image.shape[:2]:
            raise ShapeError(f"Expected a mask {image.shape[:2]}, got {mask.shape}.")
        difference = difference[mask]
    if difference.size == 0:
        return math.nan
    error = float(np.mean(np.square(difference)))
    return math.inf if error == 0 else 10 * math.log10(peak * peak / error)


@dataclass(frozen=True)
class Agreement:
    """How well one signal follows another.

    Attributes:
        correlation: Pearson's, [-1, 1]; NaN where `reason` says why there is none.
        gain: the least-squares slope of the follower over the leader: 1 when it moves as far, less when it
            moves less. A correlation is blind to that.
        reason: "" or why there are no numbers.
    """

    correlation: float
    gain: float
    reason: str = ""


def agreement(
    leader: npt.NDArray[np.floating], follower: npt.NDArray[np.floating], *, least: float, unit: str = ""
) -> Agreement:
    """Correlation and gain of two signals over the frames where both are known.

    A leader that hardly moves makes a correlation of noise, so it gives NaN and a reason. A follower that does
    not move at all has the correlation 0: it fails to follow.

    Args:
        leader: (n,), NaN where unknown.
        follower: (n,), NaN where unknown.
        least: the smallest standard deviation of the leader that counts as motion.
        unit: of the signals, for the reason.

    Raises:
        ShapeError: the signals are not vectors of one length.
    """
    if leader.ndim != 1 or leader.shape != follower.shape:
        raise ShapeError(f"Expected two signals of one length, got {leader.shape} and {follower.shape}.")
    known = np.isfinite(leader) & np.isfinite(follower)
    if known.sum() < MIN_PAIRS:
        return Agreement(math.nan, math.nan, f"{known.sum()} common frames, at least {MIN_PAIRS} needed")
    x, y = leader[known].astype(np.float64), follower[known].astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt(np.mean(x * x)))
    if spread < least:
        return Agreement(math.nan, math.nan, f"the driver hardly moves (sd {spread:.2g} {unit}, least {least:g})")
    together, alone = float(x @ y), float(np.sqrt((x @ x) * (y @ y)))
    return Agreement(together / alone if alone > 1e-12 else 0.0, together / float(x @ x))
