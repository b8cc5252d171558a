"""Detection and tracking on a real photograph: rotated, small, shifted, several or no faces; animals are refused."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from megaportraits.errors import FaceError, ShapeError
from megaportraits.faces.animals import AnimalCheck
from megaportraits.faces.detector import Face, FaceAnalyzer
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES, region_of
from megaportraits.faces.networks import Region


def pasted(portrait: np.ndarray, size: int, width: int, height: int, at: tuple[int, int]) -> np.ndarray:
    """The photograph at another size somewhere on a grey canvas."""
    canvas = np.full((height, width, 3), 120, np.uint8)
    small = cv2.resize(portrait, (size, size), interpolation=cv2.INTER_AREA)
    canvas[at[1] : at[1] + size, at[0] : at[0] + size] = small
    return canvas


def test_the_face_is_where_it_is(face: Face) -> None:
    np.testing.assert_allclose(face.box, [180, 70, 272, 179], atol=5)
    # The pupils, read off the photograph by eye at six times its size.
    np.testing.assert_allclose(face.landmarks[[468, 473], :2], [[203.2, 101.3], [246.0, 103.7]], atol=1.5)
    assert face.landmarks.shape == (478, 3) and face.landmarks.dtype == np.float32
    assert face.presence > 0.99


def test_left_and_right_are_the_subjects(face: Face) -> None:
    right_eye, left_eye = face.landmarks[33], face.landmarks[263]
    assert right_eye[0] < left_eye[0]


def test_blendshapes_see_her_smile_and_open_eyes(face: Face) -> None:
    assert len(BLENDSHAPE_NAMES) == face.blendshapes.size == 52
    assert face.blendshape("mouthSmileLeft") > 0.6 and face.blendshape("mouthSmileRight") > 0.6
    assert face.blendshape("eyeBlinkLeft") < 0.4 and face.blendshape("jawOpen") < 0.4
    assert face.blendshapes.min() >= 0 and face.blendshapes.max() <= 1


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_photographs_are_found(quarters: int, analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    (found,) = analyzer.detect(np.ascontiguousarray(np.rot90(portrait, quarters)))
    x, y = (226 - 256, 125 - 256)
    for _ in range(quarters):
        x, y = y, -x
    np.testing.assert_allclose((found.box[:2] + found.box[2:]) / 2, (x + 256, y + 256), atol=6)


def test_a_distant_face_is_found(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    """A face 23 px wide in a picture of 1600 px."""
    canvas = pasted(portrait, 130, 1600, 1000, (1240, 610))
    (found,) = analyzer.detect(canvas)
    center = (found.box[:2] + found.box[2:]) / 2
    np.testing.assert_allclose(center, (1240 + 226 * 130 / 512, 610 + 125 * 130 / 512), atol=2)


def test_a_close_up_is_found(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    close = cv2.resize(portrait[66:184, 168:286], (708, 708), interpolation=cv2.INTER_CUBIC)
    (found,) = analyzer.detect(close)
    np.testing.assert_allclose(found.box, (np.array([180, 70, 272, 179]) - [168, 66, 168, 66]) * 6, atol=36)


def test_tiny_and_huge_images_work(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    for image in (np.zeros((1, 1, 3), np.uint8), np.zeros((3, 700, 3), np.uint8), portrait[:40, :40].copy()):
        assert analyzer.detect(image) == []
    huge = portrait.repeat(10, 0).repeat(10, 1)
    (found,) = analyzer.detect(huge)
    np.testing.assert_allclose(found.box / 10, [180, 70, 272, 179], atol=5)


def test_the_largest_face_comes_first(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    canvas = pasted(portrait, 300, 800, 420, (20, 100))
    canvas[5:405, 360:760] = cv2.resize(portrait, (400, 400), interpolation=cv2.INTER_AREA)
    large, small = analyzer.detect(canvas)
    assert large.box[0] > 360 > small.box[2]
    assert large.area > small.area


def test_no_face_is_an_error_that_names_the_image(analyzer: FaceAnalyzer) -> None:
    with pytest.raises(FaceError, match=r"the source.*600 x 400.*none"):
        analyzer.require(skimage.data.coffee(), "the source")


def test_an_animal_is_an_error_of_its_own(
    analyzer: FaceAnalyzer, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AnimalCheck, "is_animal", lambda *_: True)
    assert analyzer.detect(portrait) == []
    with pytest.raises(FaceError, match="animal"):
        analyzer.require(portrait)


def test_a_cat_is_an_animal_and_the_astronaut_is_not(portrait: np.ndarray, face: Face) -> None:
    check = AnimalCheck()
    assert check.probability(skimage.data.chelsea(), Region(228, 110, 150)) > 0.8
    assert check.probability(portrait, region_of(face.landmarks, 1.0)) < 0.15


def test_the_face_is_followed_through_a_pan(analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face) -> None:
    current = face
    for step in range(1, 6):
        frame = np.roll(portrait, (4 * step, 9 * step), (0, 1))
        followed = analyzer.track(frame, current)
        assert followed is not None
        current = followed
    moved = current.landmarks[:, :2] - face.landmarks[:, :2]
    np.testing.assert_allclose(moved.mean(0), (45, 20), atol=0.7)
    assert moved.std(0).max() < 1.0


def test_a_still_photograph_is_followed_without_drift(analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face) -> None:
    current = face
    for _ in range(15):
        followed = analyzer.track(portrait, current)
        assert followed is not None
        current = followed
    assert np.abs(current.landmarks[:, :2] - face.landmarks[:, :2]).max() < 0.8


def test_a_jump_is_caught_by_detection(analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face) -> None:
    jumped = analyzer.track(np.roll(portrait, (170, -140), (0, 1)), face)
    assert jumped is not None
    np.testing.assert_allclose(jumped.box - face.box, [-140, 170, -140, 170], atol=4)


def test_a_lost_face_is_none(analyzer: FaceAnalyzer, portrait: np.ndarray, face: Face) -> None:
    assert analyzer.track(np.full_like(portrait, 90), face) is None


def test_a_distant_face_that_jumps_is_found_near_its_old_place(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    """Too small for a glance at the whole picture, so only the search around the old place can find it."""
    canvas = pasted(portrait, 130, 1600, 1000, (1240, 610))
    moved = pasted(portrait, 130, 1600, 1000, (1275, 625))
    assert analyzer.detect(moved, thorough=False) == []
    (before,) = analyzer.detect(canvas)
    after = analyzer.track(moved, before)
    assert after is not None
    np.testing.assert_allclose(after.box - before.box, [35, 15, 35, 15], atol=2)


@pytest.mark.parametrize("bad", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3)), np.zeros((9, 9, 4), np.uint8)])
def test_other_arrays_are_refused(bad: np.ndarray, analyzer: FaceAnalyzer) -> None:
    with pytest.raises(ShapeError):
        analyzer.detect(bad)


@pytest.mark.skipif("MEGAPORTRAITS_SHARED" not in os.environ, reason="needs the development stills")
def test_people_pass_and_the_dog_does_not(analyzer: FaceAnalyzer) -> None:
    stills = sorted((Path(os.environ["MEGAPORTRAITS_SHARED"]) / "stills").glob("*.jpg"))
    assert len(stills) == 9
    for path in stills:
        image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
        if "dog" in path.stem:
            with pytest.raises(FaceError, match="animal"):
                analyzer.require(image, path.name)
        else:
            assert len(analyzer.require(image, path.name)) == 1
