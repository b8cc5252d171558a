"""One resize, one composite, one PSNR for numpy pictures; resizing and compositing of image tensors."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import megaportraits
from megaportraits.ops import compositing
from megaportraits.ops.pictures import composite, over, psnr_of, resize, resize_planes
from megaportraits.ops.resample import fit_input, resize_images


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_shrinking_averages_areas_and_enlarging_is_bicubic_unless_asked() -> None:
    picture = noise(8, 8, 3)
    means = picture.reshape(4, 2, 4, 2, 3).astype(float).mean((1, 3))
    assert np.abs(resize(picture, 4) - means).max() <= 0.5
    assert np.array_equal(resize(picture, (24, 16)), cv2.resize(picture, (24, 16), interpolation=cv2.INTER_CUBIC))
    linear = resize(picture, 16, enlarge=cv2.INTER_LINEAR)
    assert linear.shape == (16, 16, 3) and not np.array_equal(linear, resize(picture, 16))
    assert resize(picture, (8, 8)) is picture
    assert resize(picture.astype(np.float32), 4).dtype == np.float32


def test_planes_of_networks_are_resized_like_pictures() -> None:
    picture = noise(8, 8, 4).astype(np.float32) / 255
    planes = resize_planes(picture.transpose(2, 0, 1)[None], 4)
    assert planes.shape == (1, 4, 4, 4)
    np.testing.assert_array_equal(planes[0].transpose(1, 2, 0), resize(picture, 4))
    assert 0 <= resize_planes(np.round(planes), 16).min() <= resize_planes(np.round(planes), 16).max() <= 1


def test_straight_and_premultiplied_colours_are_composited_alike() -> None:
    picture, matte, behind = noise(6, 5, 3), noise(6, 5), (10, 200, 90)
    mixed = composite(picture, matte, behind)
    share = matte[..., None].astype(np.float64) / 255
    assert np.abs(mixed - (picture * share + np.array(behind) * (1 - share))).max() <= 0.5 + 1e-4
    assert np.array_equal(mixed, composite(picture, (matte / np.float32(255)).astype(np.float32), behind))
    premultiplied = (np.dstack([picture / 255 * share, share])).astype(np.float32)
    assert np.abs(over(premultiplied, np.array(behind)).astype(int) - mixed).max() <= 1
    image, alpha = torch.from_numpy(picture / 255).permute(2, 0, 1)[None], torch.from_numpy(share[None, ..., 0])[None]
    color = torch.tensor(behind)[:, None, None] / 255
    straight = compositing.composite(image, alpha, color)
    assert np.abs(straight[0].permute(1, 2, 0).numpy() * 255 - mixed).max() <= 0.51
    torch.testing.assert_close(compositing.over(image * alpha, alpha, color), straight)


def test_an_error_of_a_hundredth_of_the_peak_is_forty_decibels() -> None:
    assert psnr_of(1e-4) == pytest.approx(40) and psnr_of(2.55**2, peak=255) == pytest.approx(40)
    assert psnr_of(0) == math.inf


def test_image_tensors_keep_their_range_and_do_not_alias() -> None:
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    for resized in (resize_images(stripes, 16), fit_input(stripes, 16)):
        assert resized.shape == (1, 3, 16, 16) and (resized[..., 2:-2] - 0.5).abs().max() < 0.1
    larger = resize_images(stripes, 100)
    assert larger.min() >= 0 and larger.max() <= 1
    assert resize_images(stripes, 64) is stripes and fit_input(stripes, (64, 64)) is stripes
    assert fit_input(stripes, (32, 16)).shape == (1, 3, 32, 16)


def test_pictures_are_resized_in_one_file_only() -> None:
    root = Path(megaportraits.__file__).parent
    places = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "cv2.resize(" in path.read_text(encoding="utf-8")
    }
    special = {
        "evaluation/enhancement.py",  # bicubic down to a factor of 1.5
        "synth/portraits.py",  # by a factor, not to a size
        "synth/contact_sheet.py",  # nearest neighbour, of labels
        "training/gaze.py",  # nearest neighbour, of tiny crops
    }
    assert places == {"ops/pictures.py", *special}
