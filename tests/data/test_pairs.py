"""Pairs that prefer another expression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from megaportraits.data.pairs import feature_landmarks, other_expression, score_labels
from megaportraits.data.records import ClipRecord, FrameLabels
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.faces.outlines import FEATURES


def record(expressions: list[list[float] | None]) -> ClipRecord:
    frames = [
        FrameLabels(
            rotation=np.eye(3, dtype=np.float32),
            translation=np.zeros(2, np.float32),
            scale=1.0,
            expression=None if e is None else np.array(e, np.float32),
        )
        for e in expressions
    ]
    return ClipRecord("clip", "lifted", "someone", None, 32, 25.0, ("jawOpen", "eyeBlink_L"), tuple(frames))


def test_frames_are_drawn_by_the_squared_distance_of_their_expressions() -> None:
    clip, rng = record([[0.0, 0.0], [0.0, 0.0], [0.2, 0.0], [0.0, 0.4]]), np.random.default_rng(0)
    drawn = np.bincount([other_expression(clip, 0, 1, rng) for _ in range(5000)], minlength=4) / 5000
    assert drawn[:2].sum() == 0
    assert drawn[2] == pytest.approx(0.2, abs=0.03) and drawn[3] == pytest.approx(0.8, abs=0.03)


def test_without_labels_or_differences_the_other_frame_stays() -> None:
    rng = np.random.default_rng(0)
    assert other_expression(record([[0.0, 0.0], None]), 0, 1, rng) == 1
    assert other_expression(record([[0.5, 0.1], [0.5, 0.1]]), 0, 1, rng) == 1


def test_a_clip_without_landmarks_gives_nan_for_each() -> None:
    labels = record([[0.0, 0.0]]).frames[0]
    assert feature_landmarks(labels).shape == (len(FEATURES), 2) and np.isnan(feature_landmarks(labels)).all()
    points = np.arange(2 * 478, dtype=np.float32).reshape(478, 2)
    known = feature_landmarks(replace(labels, landmarks=points))
    assert known[:2].tolist() == [[66, 67], [492, 493]]  # numbers 33 and 246


def test_real_coefficients_are_measured_and_synthetic_ones_are_not() -> None:
    clip = record([[0.25, 0.5]])
    assert np.isnan(score_labels(clip.frames[0], clip)).all()
    real = score_labels(clip.frames[0], replace(clip, kind="real"))
    known = {name: value for name, value in zip(BLENDSHAPE_NAMES, real, strict=True) if not np.isnan(value)}
    assert known == {"jawOpen": 0.25, "eyeBlinkLeft": 0.5}
    scores = np.linspace(0, 1, 52, dtype=np.float32)
    stored = FrameLabels.from_json(replace(clip.frames[0], scores=scores).to_json(), clip.expression_names)
    np.testing.assert_allclose(score_labels(stored, clip), scores, atol=1e-5)
    assert "scores" not in clip.frames[0].to_json()
