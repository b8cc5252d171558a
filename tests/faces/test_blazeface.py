"""Regions and candidates: exact crops, merging of overlapping boxes."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.errors import WeightsError
from megaportraits.faces.blazeface import Detection, _suppress
from megaportraits.faces.landmarks import region_of
from megaportraits.faces.networks import Region, task_member


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_region_at_native_size_copies_pixels() -> None:
    image = noise(50, 70)
    np.testing.assert_array_equal(Region(30, 20, 24).extract(image, 24), image[8:32, 18:42])


@pytest.mark.parametrize(("angle", "turns"), [(np.pi / 2, 1), (np.pi, 2), (-np.pi / 2, 3)])
def test_a_region_turned_by_quarters_is_the_turned_crop(angle: float, turns: int) -> None:
    image = noise(50, 70)
    upright = image[8:32, 18:42]
    np.testing.assert_array_equal(Region(30, 20, 24, angle).extract(image, 24), np.rot90(upright, turns))


def test_outside_the_image_a_region_is_black() -> None:
    image = np.full((20, 20, 3), 255, np.uint8)
    crop = Region(0, 0, 20).extract(image, 20)
    assert (crop[:10] == 0).all() and (crop[:, :10] == 0).all() and (crop[10:, 10:] == 255).all()
    assert not Region(500, 500, 20).extract(image, 20).any()


def test_region_points_follow_the_edge_convention() -> None:
    np.testing.assert_allclose(
        Region(100, 50, 20, np.pi / 2).to_image(np.array([[0, 0], [1, 0], [0.5, 0.5]])),
        [[110, 40], [110, 60], [100, 50]],
    )


def test_a_shrunk_region_averages() -> None:
    image = noise(256, 256)
    assert Region(128, 128, 256).extract(image, 8).std() < 12


def test_overlapping_candidates_are_averaged_by_score_and_others_kept() -> None:
    boxes = np.array([[0.5, 0.5, 0.2, 0.2], [0.52, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]])
    keypoints = boxes[:, None, :2].repeat(6, 1)
    found = _suppress(np.array([0.9, 0.6, 0.7]), boxes, keypoints)
    assert [score for score, _, _ in found] == [0.9, 0.7]
    assert found[0][1][0] == pytest.approx((0.9 * 0.5 + 0.6 * 0.52) / 1.5)
    np.testing.assert_allclose(found[1][1], boxes[2])


def test_no_candidates_give_no_faces() -> None:
    assert _suppress(np.zeros(0), np.zeros((0, 4)), np.zeros((0, 6, 2))) == []


def test_a_detections_region_is_level_with_its_eyes() -> None:
    keypoints = np.zeros((6, 2))
    keypoints[1] = (10, 10)
    region = Detection(0.9, np.array([30.0, 40.0]), 50.0, keypoints).region()
    assert region == Region(30, 40, 75, pytest.approx(np.pi / 4))


def test_the_region_of_turned_landmarks_turns_with_them() -> None:
    landmarks = np.random.default_rng(1).uniform(40, 60, (478, 3))
    landmarks[33], landmarks[263] = (42, 50, 0), (58, 50, 0)
    upright = region_of(landmarks)
    assert upright.angle == 0
    quarter = landmarks.copy()
    quarter[:, :2] = landmarks[:, 1::-1] * (-1, 1)
    turned = region_of(quarter)
    assert turned.angle == pytest.approx(np.pi / 2)
    assert (turned.x, turned.y, turned.side) == pytest.approx((-upright.y, upright.x, upright.side))


def test_a_bundle_that_is_no_zip_is_reported(tmp_path) -> None:
    (tmp_path / "x.task").write_bytes(b"not a zip")
    with pytest.raises(WeightsError, match="bundle"):
        task_member(tmp_path / "x.task", "net.tflite")
