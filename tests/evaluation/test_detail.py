"""Measures of detail and teeth: they fall with blur, do not depend on image size, and match known areas."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from megaportraits.evaluation.metrics.detail import detail_metrics, eye_detail, mouth_detail, teeth_area
from megaportraits.evaluation.samples import EvaluationSample
from megaportraits.faces.canonical import canonical_mesh
from megaportraits.faces.detector import Face
from megaportraits.faces.outlines import INNER_LIPS, LEFT_EYE, RIGHT_EYE

PX_PER_CM = 20.0
SIZE = 480


def drawn_face(*, gap_cm: float = 1.0, lids_cm: float = 1.0) -> Face:
    """The canonical mesh seen from in front, with lips and lids apart by so much."""
    marks = np.zeros((478, 3))
    marks[:468] = canonical_mesh().vertices
    for loop, gap in ((INNER_LIPS, gap_cm), (RIGHT_EYE, lids_cm), (LEFT_EYE, lids_cm)):
        middle, half = marks[list(loop), 1].mean(), len(loop) // 2
        marks[list(loop[1:half]), 1] = middle + gap / 2
        marks[list(loop[half + 1 :]), 1] = middle - gap / 2
        marks[[loop[0], loop[half]], 1] = middle
    pixels = (marks * (1, -1, -1) * PX_PER_CM + (SIZE / 2, SIZE / 2, 0)).astype(np.float32)
    box = np.array([*pixels[:468, :2].min(0), *pixels[:468, :2].max(0)], np.float32)
    return Face(box, pixels, 1.0, np.zeros(52, np.float32))


def noise(seed: int = 0) -> np.ndarray:
    grain = np.random.default_rng(seed).integers(0, 255, (SIZE // 6, SIZE // 6, 3), dtype=np.uint8)
    return cv2.resize(grain, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def with_teeth(face: Face, teeth: np.ndarray | tuple[int, int, int]) -> np.ndarray:
    picture = np.full((SIZE, SIZE, 3), (190, 130, 110), np.uint8)
    cv2.fillPoly(picture, [np.round(face.landmarks[list(INNER_LIPS), :2]).astype(np.int32)], teeth)
    return picture


def larger(face: Face, factor: float) -> Face:
    return Face(face.box * np.float32(factor), face.landmarks * np.float32(factor), 1.0, face.blendshapes)


@pytest.mark.parametrize("measure", [eye_detail, mouth_detail])
def test_blur_takes_detail_away_and_size_does_not(measure) -> None:  # type: ignore[no-untyped-def]
    face, sharp = drawn_face(), noise()
    soft = cv2.GaussianBlur(sharp, (0, 0), 6)
    assert measure(soft, face) < 0.2 * measure(sharp, face)
    double = cv2.resize(sharp, (2 * SIZE, 2 * SIZE), interpolation=cv2.INTER_CUBIC)
    assert measure(double, larger(face, 2)) == pytest.approx(measure(sharp, face), rel=0.1)


def test_closed_eyes_have_no_detail_to_compare() -> None:
    assert math.isnan(eye_detail(noise(), drawn_face(lids_cm=0.2)))


def test_the_area_of_teeth_is_what_lies_between_the_lips() -> None:
    face = drawn_face(gap_cm=1.0)
    corners = face.landmarks[list(INNER_LIPS), :2].astype(np.float64)
    area = abs(np.dot(corners[:, 0], np.roll(corners[:, 1], 1)) - np.dot(corners[:, 1], np.roll(corners[:, 0], 1))) / 2
    assert teeth_area(with_teeth(face, (225, 220, 210)), face) == pytest.approx(area / PX_PER_CM**2, rel=0.15)
    assert teeth_area(with_teeth(face, (60, 20, 20)), face) == 0  # a dark mouth
    assert teeth_area(with_teeth(face, (230, 90, 90)), face) == 0  # a tongue


def test_a_clip_that_equals_its_driver_has_all_its_detail() -> None:
    faces = [drawn_face(gap_cm=0.2 + 0.1 * k) for k in range(10)]
    frames = [with_teeth(face, (225, 220, 210)) for face in faces]
    drivers = list(zip(frames, faces, strict=True))
    same, reasons, _ = detail_metrics(frames, faces, drivers, (frames[0], faces[0]))
    assert same["detail_mouth"] == 1 and same["corr_teeth"] == pytest.approx(1) and same["gain_teeth"] == 1
    assert "corr_teeth" not in reasons
    blurred = [cv2.GaussianBlur(frame, (0, 0), 6) for frame in frames]
    soft, _, worst = detail_metrics(blurred, faces, drivers, (frames[0], faces[0]))
    assert soft["detail_mouth"] < 0.5
    one = [*frames[:7], blurred[7], *frames[8:]]
    assert detail_metrics(one, faces, drivers, (frames[0], faces[0]))[2]["detail_mouth"] == 7
    assert worst.keys() == {"detail_mouth", "corr_teeth", "gain_teeth"}  # these eyes are flat
    dark = [with_teeth(face, (60, 20, 20)) for face in faces]
    without, reasons, none = detail_metrics(frames, faces, list(zip(dark, faces, strict=True)), (frames[0], faces[0]))
    assert math.isnan(without["detail_mouth"]) and "teeth" in reasons["detail_mouth"]
    assert "detail_mouth" not in none and "corr_teeth" not in none


def test_a_drivers_face_lies_in_its_square(sample: EvaluationSample) -> None:
    true = sample.frames[0]
    marks = true.face_in_square.landmarks[:, :2]
    np.testing.assert_allclose(marks, (true.points + 1) * (true.square.shape[0] / 2), atol=1e-3)
