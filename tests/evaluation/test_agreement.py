from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from megaportraits.errors import ShapeError
from megaportraits.evaluation.metrics.agreement import MIN_PAIRS, agreement, psnr


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40, 50, 3), dtype=np.uint8), rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_psnr_equals_scikit_images(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pictures
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255), abs=1e-9)
    x, y = a[..., 0] / 255.0, b[..., 0] / 255.0
    assert psnr(x, y, peak=1) == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1), abs=1e-9)


def test_a_masks_psnr_is_the_psnr_of_the_cut_out(pictures: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pictures
    mask = np.zeros(a.shape[:2], bool)
    mask[5:25, 7:30] = True
    expected = peak_signal_noise_ratio(b[5:25, 7:30], a[5:25, 7:30], data_range=255)
    assert psnr(a, b, mask) == pytest.approx(expected, abs=1e-9)


def test_psnr_does_not_wrap_around_in_8_bits() -> None:
    black, white = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert psnr(black, white) == 0.0 == psnr(white, black)


def test_equal_pictures_have_infinite_psnr_and_an_empty_mask_none() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    assert psnr(picture, picture) == math.inf
    assert math.isnan(psnr(picture, picture, np.zeros((4, 4), bool)))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="one shape"):
        psnr(np.zeros((4, 4, 3)), np.zeros((4, 5, 3)))
    with pytest.raises(ShapeError, match="mask"):
        psnr(np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), np.zeros((4, 5), bool))
    with pytest.raises(ShapeError, match="one length"):
        agreement(np.zeros(3), np.zeros(4), least=0.1)


def test_agreement_equals_numpys_correlation_and_regression() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=60)
    y = 0.4 * x + 0.3 * rng.normal(size=60) + 5
    found = agreement(x, y, least=0.1)
    assert found.correlation == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
    assert found.gain == pytest.approx(np.polyfit(x, y, 1)[0], abs=1e-12)
    assert found.reason == ""


def test_frames_where_either_is_unknown_do_not_count() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 30))
    whole = agreement(x[5:], y[5:], least=0.1)
    x[:3], y[2:5] = np.nan, np.nan
    assert agreement(x, y, least=0.1) == whole


def test_a_still_driver_gives_no_number_but_a_reason() -> None:
    found = agreement(np.full(20, 3.0), np.linspace(0, 1, 20), least=0.1, unit="cm")
    assert math.isnan(found.correlation) and math.isnan(found.gain)
    assert found.reason == "the driver hardly moves (sd 0 cm, least 0.1)"


def test_too_few_frames_give_no_number_but_a_reason() -> None:
    found = agreement(np.arange(MIN_PAIRS - 1.0), np.arange(MIN_PAIRS - 1.0), least=0.1)
    assert math.isnan(found.correlation)
    assert found.reason == f"{MIN_PAIRS - 1} common frames, at least {MIN_PAIRS} needed"


def test_an_output_that_does_not_move_does_not_follow() -> None:
    found = agreement(np.linspace(0, 1, 20), np.full(20, 0.3), least=0.1)
    assert (found.correlation, found.gain) == pytest.approx((0, 0), abs=1e-12)
