"""The landmark fit recovers known heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from megaportraits.errors import DataError
from megaportraits.ops.geometry import euler_to_matrix, matrix_to_euler
from megaportraits.synth.fit import HeadFit, LandmarkFitter
from megaportraits.synth.head import MorphableHead


def seen_landmarks(head: MorphableHead, truth: HeadFit) -> np.ndarray:
    """(478, 2) pixels of the toy landmarks; irises are not used by the fit."""
    mesh = head.express(head.shape(truth.identity), truth.expression)
    return np.concatenate([truth.project(mesh[head.mediapipe_vertex]), np.zeros((10, 2))])


def make_truth(head: MorphableHead, angles: tuple[float, float, float]) -> HeadFit:
    rng = np.random.default_rng(5)
    expression = head.coefficients({"jawOpen": 0.5, "eyeBlink_L": 0.8})
    return HeadFit(rng.normal(size=60) * 0.5, expression, euler_to_matrix(*angles), 5.5, np.array([120.0, 90.0]), 0)


@pytest.mark.parametrize("angles", [(0, 0, 0), (12, -6, 9), (-15, 8, -20)])
def test_a_known_head_is_recovered(head: MorphableHead, angles: tuple[float, float, float]) -> None:
    truth = make_truth(head, angles)
    found = LandmarkFitter(head).fit(seen_landmarks(head, truth))
    assert found.residual < 0.08
    assert matrix_to_euler(found.rotation) == pytest.approx(angles, abs=2.5)
    assert found.scale == pytest.approx(5.5, rel=0.03)
    assert found.center == pytest.approx(truth.center, abs=3)
    assert np.abs(found.expression[head.index("jawOpen")] - 0.5) < 0.2


def test_coefficients_stay_within_their_limits(head: MorphableHead) -> None:
    rng = np.random.default_rng(0)
    found = LandmarkFitter(head).fit(rng.uniform(0, 200, (478, 2)))
    assert np.abs(found.identity).max() <= 3
    assert found.expression.min() >= 0 and found.expression.max() <= 1
    assert found.residual > 1


def test_rotation_is_a_rotation(head: MorphableHead) -> None:
    found = LandmarkFitter(head).fit(seen_landmarks(head, make_truth(head, (5, 5, 5))))
    assert found.rotation @ found.rotation.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_a_head_without_correspondence_says_how_to_get_it(head: MorphableHead) -> None:
    with pytest.raises(DataError, match="synth-head"):
        LandmarkFitter(replace(head, mediapipe_vertex=None))
