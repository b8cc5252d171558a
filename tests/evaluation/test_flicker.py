from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import skimage.data

from megaportraits.errors import ShapeError
from megaportraits.evaluation.metrics.flicker import FlowError

WHOLE = np.ones((128, 128), bool)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return cv2.resize(skimage.data.astronaut()[:256, 100:356], (128, 128), interpolation=cv2.INTER_AREA)


def test_a_still_video_has_no_error(picture: np.ndarray) -> None:
    assert FlowError().of([picture] * 3, [WHOLE] * 3, [0, 2, 4]).tolist() == [0, 0]


def test_motion_is_taken_out_and_flicker_is_left(picture: np.ndarray) -> None:
    inner = np.zeros_like(WHOLE)
    inner[16:-16, 16:-16] = True
    moved = np.roll(picture, (2, 3), axis=(0, 1))
    plain = float(np.abs(moved[inner].astype(float) - picture[inner]).mean())
    error = FlowError().between(picture, moved, inner)
    assert error < 0.25 * plain
    brighter = np.clip(moved.astype(int) + 12, 0, 255).astype(np.uint8)
    assert FlowError().between(picture, brighter, inner) == pytest.approx(error + 12, abs=2.5)
    rng = np.random.default_rng(0)
    noisy = [np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    # Two independent noises: the mean of |difference| is 8 * 2 / sqrt(pi); interpolation between pixels softens one.
    assert 5 < FlowError().between(*noisy, inner) < 9.1


def test_frames_with_a_gap_between_them_are_no_neighbours(picture: np.ndarray) -> None:
    found = FlowError().of([picture] * 4, [WHOLE] * 4, [0, 2, 6, 8])
    assert found[0] == found[2] == 0 and math.isnan(found[1])
    assert len(FlowError().of([picture], [WHOLE], [0])) == 0
    assert math.isnan(FlowError().between(picture, picture, ~WHOLE))


def test_other_sizes_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="one size"):
        FlowError().between(picture, picture[:64], WHOLE)
