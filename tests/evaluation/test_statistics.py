from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from megaportraits.evaluation.metrics.statistics import bootstrap_mean, jackknife


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).gamma(2, size=25)
    mine = bootstrap_mean(values.tolist())
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert mine.value == pytest.approx(values.mean())
    width = theirs.high - theirs.low
    assert mine.low == pytest.approx(theirs.low, abs=0.06 * width)
    assert mine.high == pytest.approx(theirs.high, abs=0.06 * width)
    assert mine.pairs == 25


def test_what_is_not_known_does_not_count_and_few_pairs_have_no_interval() -> None:
    assert bootstrap_mean([1.0, math.nan, 3.0]).value == 2
    assert math.isnan(bootstrap_mean([1.0, math.nan, 3.0]).low)
    assert math.isnan(bootstrap_mean([math.nan]).value)
    assert bootstrap_mean([1.0, 2.0, 3.0]) == bootstrap_mean([1.0, 2.0, 3.0])


def test_the_jackknife_error_of_a_mean_is_its_standard_error() -> None:
    groups = [np.array([[value]]) for value in np.random.default_rng(1).normal(size=40)]
    found = jackknife(groups, lambda chosen: float(np.concatenate(chosen).mean()))
    error = float(np.concatenate(groups).std(ddof=1) / math.sqrt(40))
    assert found.high - found.value == pytest.approx(1.959964 * error, rel=1e-9)
    assert found.value - found.low == pytest.approx(1.959964 * error, rel=1e-9)
