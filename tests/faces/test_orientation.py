"""Upright orientation of a real photograph."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.orientation import find_upright, roll_of, turned

Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def small(portrait: Image) -> Image:
    """A wide view of the head, 256 x 160."""
    return np.ascontiguousarray(portrait[30:350, :512])[::2, ::2]


@pytest.mark.parametrize("lies", [0, 1, 2, 3])
def test_a_picture_in_any_orientation_is_turned_to_where_its_face_is_upright(
    analyzer: FaceAnalyzer, small: Image, lies: int
) -> None:
    picture = turned(small, lies)
    turns, faces = find_upright(picture, analyzer.detect(picture), analyzer)
    assert turns == -lies % 4
    assert abs(roll_of(faces[0])) < 30
    np.testing.assert_array_equal(turned(picture, turns), small)
    nose = faces[0].landmarks[1, :2]
    assert np.abs(nose - analyzer.detect(small)[0].landmarks[1, :2]).max() < 5  # in the turned picture's pixels


def test_a_face_that_no_detector_finds_as_the_picture_lies_is_found_in_another_orientation(
    analyzer: FaceAnalyzer, small: Image
) -> None:
    turns, faces = find_upright(turned(small, 1), [], analyzer)
    assert (turns, len(faces)) == (3, 1)


def test_nothing_is_turned_where_no_orientation_shows_a_face(analyzer: FaceAnalyzer) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    assert find_upright(noise, [], analyzer) == (0, [])


@pytest.mark.parametrize("roll", [-50, 50])
def test_a_head_tilted_by_less_than_sixty_degrees_stays_as_it_was_taken(
    analyzer: FaceAnalyzer, portrait: Image, roll: float
) -> None:
    matrix = cv2.getRotationMatrix2D((226, 125), roll, 0.8)
    tilted = cv2.warpAffine(portrait, matrix, (512, 400), borderMode=cv2.BORDER_REPLICATE)
    faces = analyzer.detect(tilted)
    assert abs(roll_of(faces[0]) - roll) < 12  # the premise
    assert find_upright(tilted, faces, analyzer)[0] == 0
