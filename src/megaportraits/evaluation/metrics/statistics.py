"""How sure a number is: intervals over pairs, by resampling them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95
_LEAST = 3
"""Of fewer pairs no interval is told."""
_NORMAL = 1.959964
"""Standard deviations on each side that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A mean and where it may lie.

    Attributes:
        value: the estimate; NaN where nothing is known.
        low, high: ends of the 95 % interval; NaN for fewer than three pairs.
        pairs: how many pairs stand behind it.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    pairs: int = 0


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Estimate:
    """The mean over pairs with its percentile-bootstrap interval; what is not finite does not count.

    Pairs, not frames, are resampled: the frames of one clip are not independent.
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
    """A statistic of all groups with the normal interval of its delete-one-group jackknife error.

    For statistics whose value depends on how many different samples there are, as Frechet distances: a bootstrap
    repeats samples and would be biased.

    Args:
        groups: arrays that are left out one at a time.
        statistic: of a sequence of groups.
    """
    value = statistic(groups)
    count = len(groups)
    if count < _LEAST or not math.isfinite(value):
        return Estimate(value, pairs=count)
    without = np.array([statistic([*groups[:i], *groups[i + 1 :]]) for i in range(count)])
    error = math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))
    return Estimate(value, value - _NORMAL * error, value + _NORMAL * error, count)
