"""Crops: the coordinate maps, resampling against exact references, pasting."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.errors import ShapeError
from megaportraits.faces.crop import crop_of_pose, extract, head_crop, paste
from megaportraits.faces.detector import Face
from megaportraits.faces.pose import FacePose, fit_pose
from megaportraits.ops.geometry import Crop, euler_to_matrix


def ramp(height: int, width: int, gain: float = 1.0) -> np.ndarray:
    """An image whose red is the pixel's x (centre, minus a half), green its y, times a gain."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width) * gain
    image[..., 1] = (np.arange(height) * gain)[:, None]
    return image


def test_the_coordinate_maps_are_inverse_of_each_other() -> None:
    crop = Crop(103.25, 71.5, 44.75)
    points = np.random.default_rng(0).uniform(-300, 300, (50, 2))
    np.testing.assert_allclose(crop.crop_to_image(crop.image_to_crop(points)), points, atol=1e-10)


def test_borders_of_the_crop_are_at_plus_and_minus_one() -> None:
    crop = Crop(100, 50, 20)
    np.testing.assert_allclose(crop.crop_to_image([[-1, -1], [1, 1], [0, 0]]), [[90, 40], [110, 60], [100, 50]])
    assert crop.corners == (90, 40, 110, 60)


def test_a_crop_at_native_size_copies_pixels() -> None:
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    np.testing.assert_array_equal(extract(image, Crop(40, 30, 20), 20), image[20:40, 30:50])


def test_whole_cells_are_averaged() -> None:
    image = np.random.default_rng(2).integers(0, 256, (64, 96, 3), np.uint8)
    got = extract(image, Crop(48, 32, 64), 16)
    want = image[:, 16:80].reshape(16, 4, 16, 4, 3).mean((1, 3))
    np.testing.assert_allclose(got, want, atol=0.51)


@pytest.mark.parametrize("side", [40.0, 52.3, 77.7, 23.1])
def test_a_ramp_is_sampled_where_the_map_says(side: float) -> None:
    image = ramp(120, 160)
    crop, size = Crop(83.3, 57.9, side), 32
    got = extract(image, crop, size)
    centers = (np.arange(size) + 0.5) / size * 2 - 1
    wanted = crop.crop_to_image(np.stack(np.meshgrid(centers, centers), -1)) - 0.5
    np.testing.assert_allclose(got[..., :2], wanted, atol=0.8)


def test_outside_the_image_its_border_is_repeated() -> None:
    image = ramp(40, 60)
    got = extract(image, Crop(0, 0, 40), 40)
    np.testing.assert_array_equal(got[:20, :20], 0)
    np.testing.assert_array_equal(got[20:, 20:], image[:20, :20])
    np.testing.assert_array_equal(got[20:, :20, 1], np.tile(np.arange(20)[:, None], 20))
    far = extract(image, Crop(1000, 1000, 10), 4)
    np.testing.assert_array_equal(far, np.broadcast_to(image[-1, -1], (4, 4, 3)))


def test_fine_stripes_shrink_to_grey_not_to_moire() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    image[:, ::2] = 255
    got = extract(image, Crop(150, 150, 290), 87).astype(float)
    assert abs(got.mean() - 127.5) < 2
    assert got.std() < 3


def test_a_crop_of_a_huge_image_is_like_that_of_its_half() -> None:
    small = np.random.default_rng(3).integers(0, 256, (50, 70, 3), np.uint8)
    big = small.repeat(8, 0).repeat(8, 1)
    np.testing.assert_allclose(extract(big, Crop(280, 200, 320), 40), extract(small, Crop(35, 25, 40), 40), atol=1)


def test_pasting_a_native_crop_back_changes_nothing(portrait: np.ndarray) -> None:
    crop = Crop(230, 120, 200)
    pasted = paste(portrait, extract(portrait, crop, 200), crop, np.ones((200, 200)))
    np.testing.assert_array_equal(pasted, portrait)


def test_paste_keeps_the_image_where_the_matte_is_zero() -> None:
    image = np.full((50, 70, 3), 10, np.uint8)
    patch, matte = np.full((16, 16, 3), 250, np.uint8), np.zeros((16, 16))
    np.testing.assert_array_equal(paste(image, patch, Crop(30, 20, 24), matte), image)
    matte[:] = 1
    pasted = paste(image, patch, Crop(30, 20, 24), matte)
    np.testing.assert_array_equal(pasted[9:31, 19:41], 250)
    assert (pasted[:7] == 10).all() and (pasted[33:] == 10).all()
    assert (pasted[:, :17] == 10).all() and (pasted[:, 43:] == 10).all()
    assert (image == 10).all()


def test_paste_drops_what_lies_outside() -> None:
    image = np.zeros((30, 30, 3), np.uint8)
    patch, matte = np.full((8, 8, 3), 200, np.uint8), np.ones((8, 8))
    pasted = paste(image, patch, Crop(0, 30, 20), matte)
    assert (pasted[21:, :9] == 200).all()
    np.testing.assert_array_equal(paste(image, patch, Crop(-50, 90, 20), matte), image)


def test_the_head_crop_is_32_cm_around_the_heads_centre() -> None:
    pose = FacePose(euler_to_matrix(30, -10, 5), 4.0, np.array([210.0, 140.0]))
    crop = crop_of_pose(pose)
    assert crop.side == pytest.approx(128)
    np.testing.assert_allclose(pose.project([[0, 1, 0]])[0], [crop.center_x, crop.center_y])
    standard = pose.to_crop_pose(crop)
    assert standard.scale == pytest.approx(1)


def test_the_real_head_fills_its_crop(portrait: np.ndarray, face: Face) -> None:
    crop = head_crop(face)
    # Her hair spans about 150 px of the photograph: 32 cm are a good fifth more.
    assert 165 < crop.side < 215
    inside = crop.image_to_crop(face.landmarks[:, :2])
    assert np.abs(inside).max() < 0.75
    pose = fit_pose(face.landmarks)
    assert pose.residual < 0.6
    eyeballs = crop.image_to_crop(pose.project([[-3.116, 3.602, 7.982], [3.116, 3.602, 7.982]]))
    np.testing.assert_allclose(inside[[468, 473]], eyeballs, atol=0.06)


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        extract(bad, Crop(1, 1, 2), 4)


def test_bad_sizes_are_refused() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ShapeError):
        extract(image, Crop(4, 4, 4), 0)
    with pytest.raises(ShapeError):
        paste(image, image, Crop(4, 4, 4), np.ones((4, 4)))
