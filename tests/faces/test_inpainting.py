"""Background plates: nothing changes outside the hole, smooth backgrounds come back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from megaportraits.errors import ShapeError
from megaportraits.faces.inpainting import background_plate, push_pull


def hole(height: int = 90, width: int = 120) -> np.ndarray:
    matte = np.zeros((height, width), np.float32)
    matte[30:70, 40:80] = 1
    return matte


def test_pixels_away_from_the_matte_are_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    plate = background_plate(image, hole(), margin=0.05)
    far = np.ones((90, 120), bool)
    far[30 - 7 : 70 + 7, 40 - 7 : 80 + 7] = False
    np.testing.assert_array_equal(plate[far], image[far])


def test_a_plain_wall_comes_back_plain() -> None:
    image = np.full((90, 120, 3), (200, 120, 40), np.uint8)
    truth = image.copy()
    image[30:70, 40:80] = 0
    np.testing.assert_allclose(background_plate(image, hole()).astype(int), truth, atol=1)


def test_a_gradient_is_continued() -> None:
    truth = np.zeros((90, 120, 3), np.uint8)
    truth[..., 0] = np.arange(120) * 2
    truth[..., 1] = (np.arange(90) * 2)[:, None]
    image = truth.copy()
    image[30:70, 40:80] = 255
    plate = background_plate(image, hole()).astype(int)
    assert np.abs(plate - truth)[30:70, 40:80].mean() < 8
    assert np.abs(plate - truth)[30:70, 40:44].mean() < 4


def test_the_plate_has_the_grain_of_its_surroundings() -> None:
    rng = np.random.default_rng(1)
    image = np.clip(rng.normal(128, 8, (180, 240, 1)), 0, 255).astype(np.uint8).repeat(3, -1)
    matte = np.zeros((180, 240), np.float32)
    matte[50:130, 70:170] = 1
    plate = background_plate(image, matte).astype(float)
    inside, outside = plate[70:110, 90:150, 0], plate[:40, :, 0]
    assert 0.5 < inside.std() / outside.std() < 1.3


def test_texture_of_the_background_is_not_grain() -> None:
    rng = np.random.default_rng(1)
    leaves = cv2.GaussianBlur(rng.normal(0, 200, (180, 240)).astype(np.float32), (0, 0), 1.2)
    image = np.clip(110 + leaves, 0, 255).astype(np.uint8)
    image[:24] = 200  # a strip of sky
    matte = np.zeros((180, 240), np.float32)
    matte[50:130, 70:170] = 1
    plate = background_plate(np.dstack([image] * 3), matte).astype(np.float32)
    inside = plate[70:110, 90:150, 0]
    assert image[140:].std() > 20
    assert (inside - cv2.GaussianBlur(inside, (0, 0), 1.5)).std() < 1


def test_nothing_to_remove_is_a_copy_and_nothing_known_is_flat() -> None:
    image = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)
    same = background_plate(image, np.zeros((20, 30)))
    np.testing.assert_array_equal(same, image)
    assert same is not image
    flat = background_plate(image, np.ones((20, 30)))
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) == 1


def test_push_pull_keeps_what_is_known_and_stays_between_it() -> None:
    rng = np.random.default_rng(3)
    values = rng.uniform(10, 20, (37, 53, 2)).astype(np.float32)
    known = (rng.random((37, 53)) < 0.1).astype(np.float32)
    filled = push_pull(values, known)
    np.testing.assert_allclose(filled[known == 1], values[known == 1], rtol=1e-6)
    assert filled.min() >= 10 - 1e-3 and filled.max() <= 20 + 1e-3


def test_the_matte_must_have_the_images_size() -> None:
    with pytest.raises(ShapeError):
        background_plate(np.zeros((10, 12, 3), np.uint8), np.zeros((12, 10)))
