"""Fields of a batch: mirrored and cropped labels still describe their picture, and batches pass through loaders."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from megaportraits.data.batches import (
    Batch,
    DistillationBatch,
    FrameBatch,
    JointBatch,
    LabelledFrame,
    MattedImage,
    PairBatch,
    PhotoBatch,
    Picture,
    PosedImage,
    TrainingBatch,
    collate,
    mirrored_names,
)
from megaportraits.data.dataset import SampleDataset
from megaportraits.data.frames import FrameDataset
from megaportraits.data.joint import JointDataset
from megaportraits.data.pairs import PairDataset
from megaportraits.data.photos import PhotoDataset
from megaportraits.errors import DataError
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.faces.outlines import FEATURES
from megaportraits.ops.geometry import euler_to_matrix, matrix_to_euler
from megaportraits.ops.warping import project
from megaportraits.training.strategy import keep_inputs_exact
from tests.data.test_augment import poses

NAMES = ("jawOpen", "eyeBlink_L", "eyeBlink_R", "jawLeft", "jawRight", "mouthRollUpper")
FIXED = {"scale", "real", "clip", "frame", "unreadable"}


def same(a: Batch, b: Batch) -> bool:
    """Whether two batches have equal tensors; NaN equals NaN."""
    one, other = a.tensors(), b.tensors()
    return one.keys() == other.keys() and all(
        torch.equal(torch.as_tensor(one[k]).nan_to_num(-9), other[k].nan_to_num(-9)) for k in one
    )


def labelled(count: int = 3) -> LabelledFrame:
    torch.manual_seed(0)
    pose = poses(count)
    return LabelledFrame(
        image=torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8),
        matte=torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8),
        rotation=pose.rotation,
        translation=pose.translation,
        scale=pose.scale,
        blendshapes=torch.rand(count, len(BLENDSHAPE_NAMES)),
        readout=torch.rand(count, len(NAMES) + 2),
        landmarks=torch.rand(count, len(FEATURES), 2) - 0.5,
        coords=torch.rand(count, 4, 4, 4),
        valid=torch.rand(count, 4, 4) < 0.5,
    )


def frame_batch(count: int = 3) -> FrameBatch:
    frame = labelled(count)
    kept = {field.name: getattr(frame, field.name) for field in fields(PosedImage)}
    return FrameBatch(
        **kept,
        landmarks=frame.landmarks,
        gaze=torch.rand(count, 2),
        blink=torch.rand(count, 2),
        real=torch.zeros(count, dtype=torch.bool),
        clip=torch.arange(count),
        frame=torch.arange(count),
    )


def every(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.bool)


@pytest.mark.parametrize("batch", [labelled(), frame_batch()], ids=["labelled frame", "frame batch"])
def test_two_flips_are_none_and_unchosen_samples_stay(batch: Batch) -> None:
    which = torch.tensor([True, False, True])
    once = batch.mirror(which, NAMES)
    assert same(once.mirror(which, NAMES), batch) and same(once[1:2], batch[1:2])
    before, after = batch.tensors(), once.tensors()
    assert {k for k in before if not torch.equal(after[k], before[k])} == set(before) - FIXED


def test_a_flipped_landmark_is_its_mirror_images() -> None:
    batch = labelled()
    flipped = batch.mirror(every(3), NAMES).landmarks
    right, left = FEATURES.index(33), FEATURES.index(263)  # outer corners of the eyes
    torch.testing.assert_close(flipped[:, left], batch.landmarks[:, right] * torch.tensor([-1.0, 1.0]))


def test_left_and_right_coefficients_change_places() -> None:
    assert [NAMES[i] for i in mirrored_names(NAMES)] == [
        "jawOpen", "eyeBlink_R", "eyeBlink_L", "jawRight", "jawLeft", "mouthRollUpper",
    ]  # fmt: skip


def test_blendshapes_change_sides_by_their_names() -> None:
    batch = labelled(1)
    out, was = batch.mirror(every(1), NAMES).blendshapes[0], batch.blendshapes[0]
    at = BLENDSHAPE_NAMES.index
    assert out[at("mouthSmileLeft")] == was[at("mouthSmileRight")]
    assert out[at("jawLeft")] == was[at("jawRight")] and out[at("jawOpen")] == was[at("jawOpen")]


def test_a_mirrored_head_turns_and_looks_the_other_way() -> None:
    rotation = torch.tensor(euler_to_matrix(20, 7, -11), dtype=torch.float32)[None]
    gaze, blink = torch.tensor([[10.0, -4.0]]), torch.tensor([[1.0, 0.0]])
    out = replace(frame_batch(1), rotation=rotation, gaze=gaze, blink=blink).mirror(every(1))
    np.testing.assert_allclose(matrix_to_euler(out.rotation[0].double().numpy()), (-20, 7, 11), atol=1e-4)
    assert out.gaze.tolist() == [[-10.0, -4.0]] and out.blink.tolist() == [[0.0, 1.0]]
    frame = labelled(1)
    assert frame.mirror(every(1), NAMES).readout[0, -2] == -frame.readout[0, -2]


def test_the_mean_blink_of_both_eyes_stays_with_its_sample() -> None:
    batch = replace(frame_batch(), blink=torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(batch.mirror(every(3)).blink, batch.blink)


def test_a_flipped_pose_projects_mirrored_points_to_mirrored_places() -> None:
    batch = labelled(2)
    points = torch.randn(5, 3) * 5
    there = project(points * torch.tensor([-1.0, 1.0, 1.0]), batch.mirror(every(2), NAMES).pose)
    torch.testing.assert_close(there, project(points, batch.pose) * torch.tensor([-1.0, 1.0]))


def test_flipped_surface_maps_keep_the_relation_of_pixel_and_point() -> None:
    """A frontal head: canonical X is the pixel's own x, before and after."""
    x = (torch.arange(6) + 0.5) / 3 - 1
    coords = torch.zeros(1, 6, 6, 4)
    coords[..., 0] = x
    coords[..., 3] = torch.rand(1, 6, 6)
    out = replace(labelled(1), coords=coords).mirror(every(1), NAMES).coords
    torch.testing.assert_close(out[..., 0], coords[..., 0])
    torch.testing.assert_close(out[..., 3], coords[..., 3].flip(2))


def test_about_half_of_the_samples_are_mirrored_by_the_generator_alone() -> None:
    batch = labelled(64)
    one, two = (batch.mirror_half(torch.Generator().manual_seed(5), NAMES) for _ in range(2))
    assert same(one, two)
    mirrored = [not torch.equal(a, b) for a, b in zip(one.rotation, batch.rotation, strict=True)]
    assert 20 < sum(mirrored) < 44


def test_labels_of_a_crop_describe_the_crop() -> None:
    batch = replace(frame_batch(2), image=torch.rand(2, 3, 8, 8), matte=torch.rand(2, 1, 8, 8))
    center, half_side = torch.tensor([[0.25, -0.5], [0.0, 0.0]]), torch.tensor([0.5, 1.0])
    out = batch.crop(center, half_side)
    for key, value in batch[1:].tensors().items():
        torch.testing.assert_close(out[1:].tensors()[key], value, atol=1e-5, rtol=0)
    points = torch.randn(5, 3) * 5
    before, after = project(points, batch.pose), project(points, out.pose)
    torch.testing.assert_close(after, (before - center[:, None]) / half_side[:, None, None])
    assert batch.landmarks is not None and out.landmarks is not None
    landmarks = (batch.landmarks - center[:, None]) / half_side[:, None, None]
    torch.testing.assert_close(out.landmarks, landmarks)
    # Pixels 4 to 7 of the row, 0 to 3 of the column: a quarter of the crop, twice as large.
    inside = out.image[0][:, 1:-1:2, 1:-1:2]
    assert (inside - batch.image[0][:, :3, 3:6]).abs().max() < 0.75
    assert torch.equal(out.gaze, batch.gaze)


def test_a_batch_with_surface_maps_is_not_cropped() -> None:
    frame = labelled(1)
    number = torch.zeros(1)
    batch = PairBatch(frame, frame, MattedImage(frame.image, frame.matte), number, number, number)
    with pytest.raises(DataError, match=r"'source\.coords' cannot be cropped"):
        batch.crop(torch.zeros(1, 2), torch.ones(1))


def test_a_field_that_does_not_declare_its_rule_is_refused() -> None:
    @dataclass(frozen=True, eq=False)
    class Undeclared(Batch):
        image: Picture
        smell: torch.Tensor

    Undeclared.__annotations__ = {"image": Picture, "smell": torch.Tensor}  # names of this function are not found
    with pytest.raises(TypeError, match=r"Undeclared\.smell does not declare how it is mirrored and cropped"):
        Undeclared(torch.zeros(1, 3, 2, 2), torch.zeros(1)).mirror(torch.tensor([True]))


@pytest.mark.parametrize("kind", [PairBatch, PhotoBatch, FrameBatch, DistillationBatch, JointBatch])
def test_every_training_batch_declares_all_its_fields(kind: type[TrainingBatch]) -> None:
    from megaportraits.data.batches import _rules

    assert set(_rules(kind)) == {field.name for field in fields(kind)} >= {"unreadable"}


def data_sets(clips: Path) -> Sequence[SampleDataset]:
    pairs, photos = PairDataset(clips, length=4, size=32), PhotoDataset(clips, length=4, size=32)
    return [pairs, photos, FrameDataset(clips, length=4, size=32), JointDataset(pairs, photos)]


def test_items_of_every_data_set_stack_and_come_apart_again(clips: Path) -> None:
    for dataset in data_sets(clips):
        batch = collate([dataset[0], dataset[1]])
        assert len(batch) == 2 and len(dataset.describe(batch)) >= 2
        assert all(len(value) == 2 for value in batch.tensors().values())
        assert same(batch[0:1], collate([dataset[0]])) and same(batch[1:2], collate([dataset[1]]))


def test_batches_pass_through_loading_processes_unchanged(clips: Path) -> None:
    for dataset in data_sets(clips):
        (batch,) = DataLoader(dataset, batch_size=4, num_workers=1, collate_fn=collate)
        assert type(batch) is type(dataset[0])
        assert same(batch, collate([dataset[k] for k in range(4)]))
        assert same(pickle.loads(pickle.dumps(batch)), batch)


class _Watched(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.seen: list[PairBatch] = []

    def forward(self, batch: PairBatch) -> torch.Tensor:
        self.seen.append(batch)
        return batch.source.readout.nan_to_num().mean() * self.scale


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_fabric_hands_a_batch_to_the_module_unchanged(clips: Path, precision: str) -> None:
    """Fabric alone would round all labels to bfloat16 in bf16-mixed."""
    dataset = PairDataset(clips, length=2, size=32)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]
    keep_inputs_exact(fabric)
    module = fabric.setup_module(_Watched())
    loader = fabric.setup_dataloaders(DataLoader(dataset, batch_size=2, collate_fn=collate))
    (batch,) = loader
    module(batch)
    (seen,) = module.module.seen
    assert type(seen) is PairBatch and same(seen, collate([dataset[0], dataset[1]]))
    assert seen.source.image.dtype == torch.uint8


def test_pinning_and_moving_reach_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, number = labelled(), torch.zeros(3)
    batch = PairBatch(frame, frame, MattedImage(frame.image, frame.matte), number, number, number)
    moved = batch.to("meta")
    assert {value.device.type for value in moved.tensors().values()} == {"meta"}
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    assert same(batch.pin_memory(), batch) and len(pinned) == len(batch.tensors())
