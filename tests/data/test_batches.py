"""How the fields of a batch are mirrored and cropped: labels still describe the image afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from megaportraits.data.batches import (
    FRAME_BATCH,
    PAIR_BATCH,
    PHOTO_BATCH,
    Fields,
    collate,
    crop,
    mirror,
    mirrored_names,
)
from megaportraits.data.frames import FrameDataset
from megaportraits.data.pairs import PairDataset
from megaportraits.data.photos import PhotoDataset
from megaportraits.errors import DataError
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.faces.outlines import FEATURES
from megaportraits.ops.geometry import euler_to_matrix, matrix_to_euler
from megaportraits.ops.warping import Pose, project
from tests.data.test_augment import poses

BATCH: Fields = {**PAIR_BATCH, **FRAME_BATCH}
NAMES = ("jawOpen", "eyeBlink_L", "eyeBlink_R", "jawLeft", "jawRight", "mouthRollUpper")


def batch_of(count: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    pose = poses(count)
    return {
        "target_image": torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8),
        "target_matte": torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8),
        "target_rotation": pose.rotation,
        "target_translation": pose.translation,
        "target_scale": pose.scale,
        "target_readout": torch.rand(count, len(NAMES) + 2),
        "target_landmarks": torch.rand(count, len(FEATURES), 2) - 0.5,
        "target_coords": torch.rand(count, 4, 4, 4),
        "target_valid": torch.rand(count, 4, 4) < 0.5,
        "gaze": torch.rand(count, 2),
        "blink": torch.rand(count, 2),
        "identity": torch.arange(count),
    }


def test_two_flips_are_none_and_unchosen_samples_stay() -> None:
    batch = batch_of()
    which = torch.tensor([True, False, True])
    once = mirror(batch, BATCH, which, NAMES)
    twice = mirror(once, BATCH, which, NAMES)
    for key, value in batch.items():
        assert torch.equal(twice[key], value), key
        assert torch.equal(once[key][1], value[1]), key
    changed = {k for k in batch if not torch.equal(once[k], batch[k])}
    assert changed == set(batch) - {"target_scale", "identity"}


def test_a_flipped_landmark_is_its_mirror_images() -> None:
    batch = batch_of()
    flipped = mirror(batch, BATCH, torch.tensor([True, True, True]), NAMES)["target_landmarks"]
    right, left = FEATURES.index(33), FEATURES.index(263)  # outer corners of the eyes
    torch.testing.assert_close(flipped[:, left], batch["target_landmarks"][:, right] * torch.tensor([-1.0, 1.0]))


def test_left_and_right_coefficients_change_places() -> None:
    assert [NAMES[i] for i in mirrored_names(NAMES)] == [
        "jawOpen", "eyeBlink_R", "eyeBlink_L", "jawRight", "jawLeft", "mouthRollUpper",
    ]  # fmt: skip


def test_measured_scores_change_sides_by_their_names() -> None:
    scores = torch.rand(1, len(BLENDSHAPE_NAMES))
    out = mirror({"target_scores": scores}, BATCH, torch.tensor([True]))["target_scores"][0]
    at = BLENDSHAPE_NAMES.index
    assert out[at("mouthSmileLeft")] == scores[0, at("mouthSmileRight")]
    assert out[at("jawLeft")] == scores[0, at("jawRight")] and out[at("jawOpen")] == scores[0, at("jawOpen")]


def test_a_mirrored_head_turns_and_looks_the_other_way() -> None:
    batch = batch_of(1) | {
        "target_rotation": torch.tensor(euler_to_matrix(20, 7, -11), dtype=torch.float32)[None],
        "gaze": torch.tensor([[10.0, -4.0]]),
        "blink": torch.tensor([[1.0, 0.0]]),
    }
    out = mirror(batch, BATCH, torch.tensor([True]), NAMES)
    np.testing.assert_allclose(matrix_to_euler(out["target_rotation"][0].double().numpy()), (-20, 7, 11), atol=1e-4)
    assert out["gaze"].tolist() == [[-10.0, -4.0]] and out["blink"].tolist() == [[0.0, 1.0]]
    assert out["target_readout"][0, -2] == -batch["target_readout"][0, -2]


def test_the_mean_blink_of_both_eyes_stays_with_its_sample() -> None:
    blink = torch.tensor([0.0, 0.5, 1.0])
    assert torch.equal(mirror({"blink": blink}, BATCH, torch.ones(3, dtype=torch.bool))["blink"], blink)


def test_a_flipped_pose_projects_mirrored_points_to_mirrored_places() -> None:
    batch = batch_of(2)
    points = torch.randn(5, 3) * 5
    out = mirror(batch, BATCH, torch.ones(2, dtype=torch.bool), NAMES)

    def seen(b: dict[str, torch.Tensor], p: torch.Tensor) -> torch.Tensor:
        return project(p, Pose(b["target_rotation"], b["target_translation"], b["target_scale"]))

    there = seen(out, points * torch.tensor([-1.0, 1.0, 1.0]))
    torch.testing.assert_close(there, seen(batch, points) * torch.tensor([-1.0, 1.0]))


def test_flipped_surface_maps_keep_the_relation_of_pixel_and_point() -> None:
    """A frontal head: canonical X is the pixel's own x, before and after."""
    x = (torch.arange(6) + 0.5) / 3 - 1
    coords = torch.zeros(1, 6, 6, 4)
    coords[..., 0] = x
    coords[..., 3] = torch.rand(1, 6, 6)
    out = mirror({"target_coords": coords}, BATCH, torch.tensor([True]))["target_coords"]
    torch.testing.assert_close(out[..., 0], coords[..., 0])
    torch.testing.assert_close(out[..., 3], coords[..., 3].flip(2))


def test_labels_of_a_crop_describe_the_crop() -> None:
    batch = {key: value for key, value in batch_of(2).items() if BATCH[key].crops}
    batch["target_image"], batch["target_matte"] = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    center, half_side = torch.tensor([[0.25, -0.5], [0.0, 0.0]]), torch.tensor([0.5, 1.0])
    out = crop(batch, BATCH, center, half_side)
    assert all(torch.allclose(out[key][1].float(), value[1].float(), atol=1e-5) for key, value in batch.items())
    points = torch.randn(5, 3) * 5
    before, after = (
        project(points, Pose(b["target_rotation"], b["target_translation"], b["target_scale"])) for b in (batch, out)
    )
    torch.testing.assert_close(after, (before - center[:, None]) / half_side[:, None, None])
    landmarks = (batch["target_landmarks"] - center[:, None]) / half_side[:, None, None]
    torch.testing.assert_close(out["target_landmarks"], landmarks)
    # Pixels 4 to 7 of the row, 0 to 3 of the column: a quarter of the crop, twice as large.
    inside = out["target_image"][0][:, 1:-1:2, 1:-1:2]
    assert (inside - batch["target_image"][0][:, :3, 3:6]).abs().max() < 0.75
    assert torch.equal(out["target_readout"], batch["target_readout"])


def test_a_batch_with_surface_maps_is_not_cropped() -> None:
    with pytest.raises(DataError, match="'target_coords' cannot be cropped"):
        crop(batch_of(1), BATCH, torch.zeros(1, 2), torch.ones(1))


def test_a_tensor_that_is_not_declared_is_refused() -> None:
    with pytest.raises(DataError, match="holds 'target_smell', which its fields do not declare"):
        mirror({"target_smell": torch.zeros(1)}, PAIR_BATCH, torch.tensor([True]))


def test_the_data_sets_give_what_their_batches_declare(clips: Path) -> None:
    frames, optional = FrameDataset(clips, length=2, size=32), {"landmarks"}
    for dataset, fields in (
        (PairDataset(clips, length=2, size=32), PAIR_BATCH),
        (PhotoDataset(clips, length=2, size=32), PHOTO_BATCH),
        (frames, {key: field for key, field in FRAME_BATCH.items() if key not in optional}),
    ):
        batch = collate([dataset[0], dataset[1]])  # type: ignore[index]
        assert set(batch) == set(fields)
        assert all(len(value) == 2 for value in batch.values())
