"""Mattes: cleaning, edges against a naive guided filter, colours behind mixed pixels, a real portrait."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.errors import WeightsError
from megaportraits.faces.crop import head_crop
from megaportraits.faces.detector import Face
from megaportraits.faces.matting import Matting, clean, foreground, guided_filter, refine


def disc(size: int, x: float, y: float, radius: float) -> np.ndarray:
    grid = np.arange(size) + 0.5
    distance = np.hypot(grid - x, (grid - y)[:, None])
    return np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)


FACE_POINTS = np.array([[60, 60], [68, 60], [68, 68], [60, 68]], np.float32)


def test_islands_go_and_small_holes_close() -> None:
    likely = disc(128, 64, 64, 30)
    likely[10:16, 10:16] = 1
    likely[80:83, 60:63] = 0
    cleaned = clean(likely, FACE_POINTS)
    assert not cleaned[8:18, 8:18].any()
    assert (cleaned[79:84, 59:64] == 1).all()
    assert cleaned[64, 64] == 1


def test_a_gap_that_opens_to_the_border_stays() -> None:
    likely = np.ones((128, 128), np.float32)
    likely[100:, 20:30] = 0
    assert not clean(likely, FACE_POINTS)[101:, 21:29].any()


def test_a_large_hole_stays() -> None:
    likely = np.ones((128, 128), np.float32)
    likely[90:110, 90:110] = 0
    assert not clean(likely, FACE_POINTS)[91:109, 91:109].any()


def test_the_face_belongs_to_the_person_even_when_the_network_misses_it() -> None:
    likely = disc(128, 64, 64, 30)
    likely[58:70, 58:70] = 0
    assert (clean(likely, FACE_POINTS)[60:68, 60:68] == 1).all()


def test_guided_filter_equals_the_naive_one() -> None:
    rng = np.random.default_rng(0)
    guide = rng.random((12, 14, 3)).astype(np.float32)
    values = rng.random((12, 14)).astype(np.float32)
    radius, epsilon = 2, 1e-2
    fast = guided_filter(guide, values, radius=radius, epsilon=epsilon)
    padded_guide = np.pad(guide, ((radius,) * 2, (radius,) * 2, (0, 0)), mode="symmetric").astype(np.float64)
    padded_values = np.pad(values, radius, mode="symmetric").astype(np.float64)
    slope, offset = np.zeros((12, 14, 3)), np.zeros((12, 14))
    for y in range(12):
        for x in range(14):
            window = padded_guide[y : y + 5, x : x + 5].reshape(-1, 3)
            targets = padded_values[y : y + 5, x : x + 5].ravel()
            covariance = np.cov(window.T, bias=True) + epsilon * np.eye(3)
            mixed = ((window - window.mean(0)) * (targets - targets.mean())[:, None]).mean(0)
            slope[y, x] = np.linalg.solve(covariance, mixed)
            offset[y, x] = targets.mean() - slope[y, x] @ window.mean(0)
    padded_slope = np.pad(slope, ((radius,) * 2, (radius,) * 2, (0, 0)), mode="symmetric")
    padded_offset = np.pad(offset, radius, mode="symmetric")
    for y in range(12):
        for x in range(14):
            mean_slope = padded_slope[y : y + 5, x : x + 5].mean((0, 1))
            want = mean_slope @ guide[y, x] + padded_offset[y : y + 5, x : x + 5].mean()
            assert fast[y, x] == pytest.approx(want, abs=2e-4)


def test_the_matte_snaps_to_the_edge_in_the_picture() -> None:
    """The coarse matte is 2 px too wide; the picture shows where the disc ends."""
    true = disc(256, 128, 128, 60)
    guide = (40 + 180 * true[..., None]).repeat(3, -1).astype(np.uint8)
    refined = refine(guide, disc(256, 128, 128, 62))
    assert np.abs(refined - true).mean() < 0.25 * np.abs(disc(256, 128, 128, 62) - true).mean()
    assert (refined[true == 0][:50] == 0).all()
    assert (refined[disc(256, 128, 128, 45) == 1] == 1).all()


def test_mixed_pixels_get_the_persons_colour() -> None:
    alpha = np.clip(disc(128, 64, 64, 40), 0, 1)
    for _ in range(6):
        alpha = (
            alpha + np.roll(alpha, 1, 0) + np.roll(alpha, -1, 0) + np.roll(alpha, 1, 1) + np.roll(alpha, -1, 1)
        ) / 5
    red, green = np.array([200.0, 30, 30]), np.array([20.0, 220, 40])
    image = np.rint(alpha[..., None] * red + (1 - alpha[..., None]) * green).astype(np.uint8)
    colours = foreground(image, alpha.astype(np.float32))
    mixed = (alpha > 0.05) & (alpha < 0.95)
    error = np.abs(colours[mixed] - red).mean()
    assert error < 0.15 * np.abs(image[mixed] - red).mean()
    np.testing.assert_array_equal(colours[alpha == 1], image[alpha == 1])


@pytest.fixture(scope="module")
def matting() -> Matting:
    try:
        return Matting()
    except WeightsError as error:
        pytest.skip(f"weights cannot be had: {error}")


def test_the_astronaut_is_cut_out(matting: Matting, portrait: np.ndarray, face: Face) -> None:
    crop, size = head_crop(face), 192
    alpha = matting.matte(portrait, face, crop, size)
    assert alpha.shape == (size, size) and alpha.dtype == np.float32
    assert alpha.min() == 0 and alpha.max() == 1
    face_px = np.rint((crop.image_to_crop(face.landmarks[:468, :2]) + 1) * size / 2).astype(int)
    # All but the outermost points, which lie on the outline.
    assert (alpha[face_px[:, 1], face_px[:, 0]] > 0.98).mean() > 0.97
    # Wall left and right of the hair, the suit's ring below.
    assert not alpha[20:90, :15].any() and not alpha[20:90, -15:].any()
    assert alpha[-10:, 70:120].min() > 0.99
    soft = ((alpha > 0.02) & (alpha < 0.98)).mean()
    assert 0.002 < soft < 0.06


def test_mattes_of_two_sizes_agree(matting: Matting, portrait: np.ndarray, face: Face) -> None:
    crop = head_crop(face)
    large = matting.matte(portrait, face, crop, 256).reshape(64, 4, 64, 4).mean((1, 3))
    np.testing.assert_allclose(matting.matte(portrait, face, crop, 64), large, atol=1e-5)
