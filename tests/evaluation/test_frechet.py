from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from megaportraits.errors import ShapeError
from megaportraits.evaluation.metrics.frechet import frechet_distance


def by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    """The formula as it is printed."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(cov_a @ cov_b).real
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 12), (60, 90, 40)])
def test_it_is_the_formula_with_scipys_matrix_root(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    b = rng.normal(size=(m, d)) @ rng.normal(size=(d, d))
    assert frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-6)


class Flat(nn.Module):
    """Features for torchmetrics: the pixels themselves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :24].double()


def test_it_is_torchmetrics_distance() -> None:
    rng = np.random.default_rng(1)
    a, b = (torch.from_numpy(rng.random((80, 3, 4, 4)) * scale).float() for scale in (1.0, 0.7))
    metric = FrechetInceptionDistance(feature=Flat(), input_img_size=(3, 4, 4), normalize=False)
    metric.set_dtype(torch.float64)
    metric.update(a, real=True)
    metric.update(b, real=False)
    mine = frechet_distance(*(Flat()(x).numpy() for x in (a, b)))
    assert mine == pytest.approx(float(metric.compute()), rel=1e-5)


def test_fewer_pictures_than_features_need_no_root_of_a_singular_matrix() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(9, 40)), rng.normal(size=(7, 40)) + 0.5
    wide = frechet_distance(a, b)
    # A rotation of the features changes nothing, and neither do features that are always 0.
    turn = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(wide, rel=1e-9)
    assert frechet_distance(np.pad(a, ((0, 0), (0, 9))), np.pad(b, ((0, 0), (0, 9)))) == pytest.approx(wide, rel=1e-9)


def test_a_set_is_at_no_distance_from_itself_and_a_shift_is_its_squared_length() -> None:
    a = np.random.default_rng(3).normal(size=(50, 8))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2.0) == pytest.approx(8 * 4, rel=1e-9)


def test_one_picture_has_no_distribution_and_other_widths_are_refused() -> None:
    assert math.isnan(frechet_distance(np.zeros((1, 4)), np.zeros((5, 4))))
    with pytest.raises(ShapeError, match="features"):
        frechet_distance(np.zeros((5, 4)), np.zeros((5, 3)))
