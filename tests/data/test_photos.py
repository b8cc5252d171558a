"""Views of photographs: labels and pixels agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from megaportraits.data.batches import collate
from megaportraits.data.clip_schema import FrameLabels
from megaportraits.data.photos import PhotoDataset, View
from megaportraits.errors import DataError
from megaportraits.ops.geometry import euler_to_matrix
from tests.data.test_batches import same

POINT = np.array([[3.1, 3.6, 8.0]])


def dotted(labels: FrameLabels, size: int) -> np.ndarray:
    """A black picture with a soft dot where the head's point is."""
    x, y = (labels.pose.project(POINT)[0, :2] + 1) * size / 2
    rows, columns = np.mgrid[:size, :size] + 0.5
    dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2))
    return np.rint(255 * dot).astype(np.uint8)


def middle(image: np.ndarray) -> np.ndarray:
    """The dot's centre of mass, crop coordinates."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    weight = image.astype(float) / image.sum()
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) * 2 / image.shape[0] - 1


@pytest.mark.parametrize("stored", [100, 300])
@pytest.mark.parametrize(
    "view",
    [
        View(np.zeros(2), 1.0, 0.0),
        View(np.array([0.1, -0.05]), 1.0, 0.0),
        View(np.zeros(2), 0.8, 0.0),
        View(np.array([-0.1, 0.1]), 0.85, 20.0),
        View(np.array([0.05, 0.1]), 0.9, -25.0),
    ],
)
def test_the_pose_of_a_view_is_where_its_pixels_are(view: View, stored: int) -> None:
    labels = FrameLabels(euler_to_matrix(10, -5, 8), np.array([0.03, 0.08]), 0.9)
    image = view.extract(dotted(labels, stored), 128)
    assert np.abs(middle(image) - view.moved(labels).project(POINT)[0, :2]).max() < 0.004  # a quarter of a pixel


def test_the_whole_view_is_the_picture() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(View(np.zeros(2), 1.0, 0.0).extract(image, 64), image)


def test_a_view_without_motion_leaves_the_pose() -> None:
    labels = FrameLabels(euler_to_matrix(10, -5, 8), np.array([0.03, 0.08]), 0.9)
    pose = View(np.zeros(2), 1.0, 0.0).moved(labels)
    assert np.allclose(pose.rotation, labels.rotation) and np.allclose(pose.translation, labels.translation)
    assert pose.scale == labels.scale


def test_large_pictures_are_averaged_not_sampled() -> None:
    checks = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    soft = View(np.zeros(2), 1.0, 0.0).extract(checks, 128)
    assert np.abs(soft.astype(int) - 127).max() <= 8


def test_an_item_depends_on_its_number_alone(clips: Path) -> None:
    one, two = (PhotoDataset(clips, length=8, size=32, seed=3) for _ in range(2))
    assert same(one[5], two[5]) and not torch.equal(one[4].source.image, one[5].source.image)


def test_source_and_target_are_one_person_and_the_driver_another(clips: Path) -> None:
    dataset = PhotoDataset(clips, length=20, size=32)
    for k in range(20):
        item = dataset[k]
        assert item.identity != item.stranger
        assert not torch.equal(item.source.rotation, item.target.rotation)
    assert dataset[0].source.image.shape == (3, 32, 32) and dataset[0].driver.matte.shape == (1, 32, 32)
    batch = collate([dataset[0]])
    assert dataset.describe(batch)[0].startswith("c")


def test_views_of_one_photograph_differ_by_a_roll_only(clips: Path) -> None:
    """Depth rotation cannot be made from a still: R_target R_source^T turns in the picture's plane."""
    item = PhotoDataset(clips, length=4, size=32)[2]
    turn = item.target.rotation @ item.source.rotation.T
    assert torch.allclose(turn[2], torch.tensor([0.0, 0.0, 1.0]), atol=1e-5)


def test_photographs_that_are_too_small_are_left_out(clips: Path) -> None:
    with pytest.raises(DataError, match="0 of 6 photographs are 64 px or larger"):
        PhotoDataset(clips, length=1, size=64, min_size=64)
