"""Confidence intervals of metrics, by resampling of pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95
_LEAST = 3
"""Smallest number of pairs for an interval."""
_NORMAL = 1.959964
"""Half width of the central 95 % of a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class Estimate:
    """An estimate with its confidence interval.

    Attributes:
        value: the estimate; NaN if unknown.
        low: lower end of the 95 % interval; NaN for fewer than three pairs.
        high: upper end of the 95 % interval; NaN for fewer than three pairs.
        pairs: number of pairs that the estimate is based on.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    pairs: int = 0


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean over pairs with its percentile-bootstrap interval; values that are not finite are ignored.

    Pairs are resampled, not frames, because the frames of one clip are not independent.
    """
    known = np.asarray([value for value in values if math.isfinite(value)], np.float64)
    if len(known) == 0:
        return Estimate(math.nan)
    mean = float(known.mean())
    if len(known) < _LEAST:
        return Estimate(mean, pairs=len(known))
    draws = np.random.default_rng(seed).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.quantile(known[draws].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean, float(low), float(high), len(known))


def jackknife(
    groups: Sequence[npt.NDArray[np.floating]], statistic: Callable[[Sequence[npt.NDArray[np.floating]]], float]
) -> Estimate:
    """A statistic of all groups, with a normal interval from its delete-one-group jackknife error.

    It is for statistics that depend on the number of different samples, like Frechet distances: a bootstrap repeats
    samples and would be biased.

    Args:
        groups: arrays, of which one is left out at a time.
        statistic: function of a sequence of groups.
    """
    value = statistic(groups)
    count = len(groups)
    if count < _LEAST or not math.isfinite(value):
        return Estimate(value, pairs=count)
    without = np.array([statistic([*groups[:i], *groups[i + 1 :]]) for i in range(count)])
    error = math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))
    return Estimate(value, value - _NORMAL * error, value + _NORMAL * error, count)
