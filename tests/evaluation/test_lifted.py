"""What the baseline `lifted` computes from fits; rendered on a small stand-in head it would not be a fair baseline."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from megaportraits.evaluation.methods.lifted import crop_pose, fitted_gaze
from megaportraits.faces import Crop
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.synth.fit import HeadFit
from megaportraits.synth.head import REGIONS

RADIUS = 1.2
CENTERS = {"eye_R": np.array([-3.1, 3.6, 8.0]), "eye_L": np.array([3.1, 3.6, 8.0])}


def fit_of(angles: tuple[float, float, float]) -> HeadFit:
    zeros = np.zeros(60)
    return HeadFit(zeros, np.zeros(57, np.float32), euler_to_matrix(*angles), 12.0, np.array([300.0, 200.0]), 0.1)


@pytest.fixture(scope="module")
def head() -> Any:
    """A head of which only the eyeballs are there: two spheres."""
    vertices = np.zeros((26719, 3), np.float32)
    rng = np.random.default_rng(0)
    for eye, center in CENTERS.items():
        count = REGIONS[eye].stop - REGIONS[eye].start
        ball = rng.normal(size=(count, 3))
        ball = np.concatenate([ball[6:], np.eye(3), -np.eye(3)])  # with its six poles, so that its box is exact
        vertices[REGIONS[eye]] = center + RADIUS * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    return SimpleNamespace(shape=lambda identity: vertices)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (15.0, -8.0, 10.0)])
@pytest.mark.parametrize("gaze", [(0.0, 0.0), (12.0, 0.0), (-8.0, 10.0)])
def test_gaze_is_found_where_the_irises_were_put(
    head: Any, angles: tuple[float, float, float], gaze: tuple[float, float]
) -> None:
    fit = fit_of(angles)
    look = euler_to_matrix(*gaze, 0) @ [0, 0, RADIUS]
    landmarks = np.zeros((478, 3))
    for eye, iris in (("eye_R", 468), ("eye_L", 473)):
        landmarks[iris, :2] = fit.project([CENTERS[eye] + look])[0]
    assert fitted_gaze(fit, head, landmarks) == pytest.approx(gaze, abs=0.05)


def test_an_iris_outside_the_eye_gives_a_bounded_gaze(head: Any) -> None:
    landmarks = np.zeros((478, 3))
    assert np.abs(fitted_gaze(fit_of((0, 0, 0)), head, landmarks)).max() <= 30


def test_a_fit_in_pixels_is_the_same_head_in_crop_coordinates() -> None:
    fit, crop = fit_of((20.0, -5.0, 3.0)), Crop(280.0, 190.0, 400.0)
    points = np.random.default_rng(1).normal(size=(9, 3)) * 6
    np.testing.assert_allclose(
        crop_pose(fit, crop).project(points)[:, :2], crop.image_to_crop(fit.project(points)), atol=1e-9
    )
