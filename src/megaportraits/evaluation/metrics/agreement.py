"""PSNR, and the correlation and gain of two signals; functions that do not depend on a protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megaportraits.errors import ShapeError
from megaportraits.ops.pictures import psnr_of

MIN_PAIRS = 8
"""Smallest number of common frames for a correlation."""


def psnr(
    image: npt.NDArray[np.generic],
    truth: npt.NDArray[np.generic],
    mask: npt.NDArray[np.bool_] | None = None,
    *,
    peak: float = 255.0,
) -> float:
    """Peak signal-to-noise ratio in decibels; infinite for equal images.

    Args:
        image: (H, W) or (H, W, C).
        truth: the ground truth, of the same shape.
        mask: (H, W), the pixels to compare; None: all. With an empty mask the result is NaN.
        peak: the largest possible value.

    Raises:
        ShapeError: the shapes differ.
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
    return psnr_of(float(np.mean(np.square(difference))), peak=peak)


@dataclass(frozen=True)
class Agreement:
    """How well one signal follows another.

    Attributes:
        correlation: Pearson's correlation, [-1, 1]; NaN if unknown.
        gain: the least-squares slope of the follower over the leader: 1 if it moves as far, less if it moves less. The
            correlation does not show that.
        reason: why the numbers are unknown, else "".
    """

    correlation: float
    gain: float
    reason: str = ""


def agreement(
    leader: npt.NDArray[np.floating], follower: npt.NDArray[np.floating], *, least: float, unit: str = ""
) -> Agreement:
    """Correlation and gain of two signals over the frames where both are known.

    If the leader hardly moves, the correlation would be that of noise; the result is NaN with a reason. If the follower
    does not move at all, its correlation is 0.

    Args:
        leader: (n,), NaN where unknown.
        follower: (n,), NaN where unknown.
        least: the smallest standard deviation of the leader that counts as motion.
        unit: unit of the signals, for the reason.

    Raises:
        ShapeError: the signals are not vectors of equal length.
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
