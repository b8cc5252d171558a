from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from skimage.transform import SimilarityTransform

from megaportraits.errors import ShapeError
from megaportraits.evaluation.methods.baselines import aligned_copy, similarity_2d
from megaportraits.evaluation.metrics.agreement import psnr
from megaportraits.faces import Crop, extract


def test_the_fit_finds_a_known_similarity_and_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(20, 2)) * 30
    known = SimilarityTransform(scale=1.3, rotation=0.4, translation=(5, -7)).params[:2]
    target = source @ known[:, :2].T + known[:, 2]
    np.testing.assert_allclose(similarity_2d(source, target, np.full(20, 0.05)), known, atol=1e-9)
    noisy = target + rng.normal(size=target.shape)
    weight = rng.random(20) + 0.1
    (x, y), one, zero = source.T, np.ones(20), np.zeros(20)
    equations = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    root = np.sqrt(np.tile(weight, 2))
    a, b, c, d = np.linalg.lstsq(equations * root[:, None], noisy.T.ravel() * root, rcond=None)[0]
    np.testing.assert_allclose(similarity_2d(source, noisy, weight), [[a, -b, c], [b, a, d]], atol=1e-9)


def test_a_copy_aligned_to_itself_is_the_crop_itself() -> None:
    photo = np.ascontiguousarray(skimage.data.astronaut())
    rng = np.random.default_rng(1)
    landmarks = (rng.random((478, 3)) * 100 + 150).astype(np.float32)
    crop = Crop(220.0, 130.0, 256.0)
    copy = aligned_copy(photo, landmarks, landmarks, crop, 128)
    assert psnr(copy, extract(photo, crop, 128)) > 40


def test_a_shifted_and_zoomed_driver_gives_the_shifted_and_zoomed_photo() -> None:
    photo = np.ascontiguousarray(skimage.data.astronaut())
    rng = np.random.default_rng(2)
    landmarks = (rng.random((478, 3)) * 100 + 150).astype(np.float32)
    matrix = np.array([[0.75, 0, 11.0], [0, 0.75, -4.0]])
    target = landmarks.copy()
    target[:, :2] = landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    centers = matrix.copy()
    centers[:, 2] += 0.5 * 0.75 - 0.5
    moved = cv2.warpAffine(photo, centers, (512, 512), flags=cv2.INTER_CUBIC)
    crop = Crop(180.0, 110.0, 200.0)
    assert psnr(aligned_copy(photo, landmarks, target, crop, 96)[8:], extract(moved, crop, 96)[8:]) > 35


def test_landmarks_of_two_kinds_are_refused() -> None:
    with pytest.raises(ShapeError, match="two sets"):
        aligned_copy(np.zeros((8, 8, 3), np.uint8), np.zeros((478, 3)), np.zeros((468, 3)), Crop(4, 4, 8), 8)
