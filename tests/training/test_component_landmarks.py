"""Landmarks in crops of eyes and mouth: labels, loss, training of their network."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.config import ComponentLandmarkConfig, LossConfig
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ShardWriter
from megaportraits.data.frames import FrameDataset
from megaportraits.errors import DataError
from megaportraits.faces.outlines import FEATURES, LEFT_EYE, LEFT_IRIS, LIPS, MIRRORED, RIGHT_EYE
from megaportraits.losses.landmarks import landmark_distance, openings
from megaportraits.models.component_landmarks import ComponentLandmarkNet
from megaportraits.models.storage import load_component_landmarks, save_component_landmarks
from megaportraits.ops.geometry import HEAD_HALF_CM, LEFT_EYE_CM, euler_to_matrix
from megaportraits.ops.warping import Pose, project
from megaportraits.training.component_landmarks import ComponentLandmarkLoss, labelled_points, point_errors

TINY = ComponentLandmarkConfig(eye_size=16, mouth_size=16, widths=(8, 8), hidden=8)


def make_pose(count: int = 2) -> Pose:
    rotation = torch.from_numpy(np.stack([euler_to_matrix(10.0 * k, 5.0, -8.0) for k in range(count)])).float()
    return Pose(rotation, torch.full((count, 2), 0.07), torch.full((count,), 0.9))


def random_landmarks(count: int = 2) -> torch.Tensor:
    return torch.rand(count, len(FEATURES), 2, generator=torch.Generator().manual_seed(0)) - 0.5


def test_a_point_at_the_middle_of_the_left_eye_is_the_middle_of_its_crop() -> None:
    net, pose = ComponentLandmarkNet(TINY), make_pose()
    middle = project(torch.tensor([LEFT_EYE_CM]), pose)  # (2, 1, 2)
    landmarks = random_landmarks()
    landmarks[:, FEATURES.index(LEFT_EYE[0])] = middle[:, 0]
    right = (
        project(torch.tensor([LEFT_EYE_CM]), pose)[:, 0] + pose.scale[:, None] * torch.tensor([3.0, 0.0]) / HEAD_HALF_CM
    )
    landmarks[:, FEATURES.index(LEFT_EYE[1])] = right  # 3 cm to the right on the head: the edge of a crop 6 cm wide
    eyes, _ = labelled_points(net, landmarks, pose)
    torch.testing.assert_close(eyes[:2, 0], torch.zeros(2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(eyes[:2, 1], torch.tensor([[1.0, 0.0]] * 2), atol=1e-5, rtol=0)


def test_a_mirrored_face_has_the_same_points_with_its_eyes_exchanged() -> None:
    net, pose, landmarks = ComponentLandmarkNet(TINY), make_pose(), random_landmarks()
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    mirrored = Pose(pose.rotation * mirror[:, None] * mirror, pose.translation * mirror[:2], pose.scale)
    eyes, mouth = labelled_points(net, landmarks, pose)
    other_eyes, other_mouth = labelled_points(net, landmarks[:, list(MIRRORED)] * mirror[:2], mirrored)
    torch.testing.assert_close(other_eyes, eyes.roll(2, 0), equal_nan=True)
    loop = [(len(LIPS) // 2 - i) % len(LIPS) for i in range(len(LIPS))]
    torch.testing.assert_close(other_mouth[:, : len(LIPS)], mouth[:, loop] * mirror[:2])
    image = torch.rand(2, 3, 64, 64)
    crops, other_crops = net.crops(image, pose), net.crops(image.flip(-1), mirrored)
    torch.testing.assert_close(other_crops[0], crops[0].roll(2, 0), atol=1e-4, rtol=0)


def test_irises_of_closed_eyes_teach_nothing() -> None:
    net, pose, landmarks = ComponentLandmarkNet(TINY), make_pose(1), random_landmarks(1)
    for loop in (LEFT_EYE, RIGHT_EYE):
        for number, point in enumerate(loop):  # a flat line from corner to corner
            landmarks[:, FEATURES.index(point)] = torch.tensor([math.cos(2 * math.pi * number / len(loop)), 0.0])
    wanted = labelled_points(net, landmarks, pose)
    assert wanted[0][:, -1].isnan().all()
    landmarks[:, FEATURES.index(LEFT_IRIS)] += 5
    found = tuple(torch.zeros_like(points).requires_grad_() for points in wanted)
    errors = point_errors(net, found, wanted)  # type: ignore[arg-type]
    assert errors["iris"] == 0 and all(value.isfinite() for value in errors.values())
    errors["eye_points"].backward()
    assert (found[0].grad[:, -1] == 0).all() and (found[0].grad[:, :-1] != 0).any()  # type: ignore[index]


def test_openings_are_vectors_between_opposite_points_and_distances_are_in_their_unit() -> None:
    loop = torch.tensor([[[-1.0, 0.0], [-0.5, 1.0], [0.5, 1.0], [1.0, 0.0], [0.5, -1.0], [-0.5, -2.0]]])
    torch.testing.assert_close(openings(loop), torch.tensor([[[0.0, 3.0], [0.0, 2.0]]]))
    assert landmark_distance(openings(loop), openings(loop) + torch.tensor([0.25, 0.5])) == 0.75
    assert landmark_distance(loop, torch.full_like(loop, torch.nan)) == 0


def test_the_loss_pulls_only_the_prediction_and_only_at_eyes_and_mouth(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_component_landmarks(tmp_path / "n.safetensors", ComponentLandmarkNet(TINY))
    loss = ComponentLandmarkLoss(LossConfig(landmark_network=str(tmp_path / "n.safetensors")))
    pose = Pose(torch.eye(3).expand(2, 3, 3), torch.zeros(2, 2), torch.ones(2))
    prediction, target = torch.rand(2, 2, 3, 64, 64).requires_grad_().unbind(0)
    assert loss(target, target, pose) == 0
    value = loss(prediction, target, pose)
    (to_prediction, to_target) = torch.autograd.grad(value, (prediction, target), allow_unused=True)
    assert value > 0 and to_target is None
    touched = (to_prediction != 0).any(1).any(0)
    assert touched.any() and not touched[:18].any() and not touched[50:].any()  # brow and chin


def landmarked(folder: Path, size: int, *, known: bool = True) -> Path:
    """One clip of four frames of noise."""
    rng = np.random.default_rng(size)
    with ShardWriter(folder, 0) as shard:
        marks = [rng.uniform(-0.5, 0.5, (478, 2)).astype(np.float32) if known else None for _ in range(4)]
        labels = tuple(FrameLabels(np.eye(3), np.zeros(2), 1.0, landmarks=mark) for mark in marks)
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        frames = [ClipFrame(pixels, np.full((size, size), 255, np.uint8), label) for label in labels]
        shard.write(ClipRecord(f"c{size}", "real", f"c{size}", None, size, 25.0, (), labels), frames)
    return folder


def test_frames_with_landmarks_are_drawn_by_the_parts_of_a_mixture(tmp_path: Path) -> None:
    first, second = landmarked(tmp_path / "a", 32), landmarked(tmp_path / "b", 40)
    data = FrameDataset(f"{first} * 0.1 + {second} * 0.9", length=400, size=8, landmarks=True)
    rng = np.random.default_rng(0)
    shares = np.bincount([data._draw(rng)[0] for _ in range(400)], minlength=2) / 400
    assert shares[1] == pytest.approx(0.9, abs=0.06)
    without = landmarked(tmp_path / "c", 48, known=False)
    with pytest.raises(DataError, match=r"no frame in .*c can be used"):
        FrameDataset(f"{first} * 0.5 + {without} * 0.5", length=4, size=8, landmarks=True)


def test_train_component_landmarks_reports_its_errors_and_every_parameter_learns(tmp_path: Path) -> None:
    data = landmarked(tmp_path / "data/train", 32).parent
    landmarked(data / "val", 40)
    settings = [
        "run.accelerator=cpu", "run.log_every=1", "run.sample_every=2", "run.tensorboard=false", "data.workers=0",
        "run.precision=32-true", "data.size=32", "optim.batch_size=4", "optim.steps=2", "model.eye_size=16",
        "model.mouth_size=16", "model.widths=[8,8]", "model.hidden=8", "optim.ema_decay=0", "optim.weight_decay=0",
    ]  # fmt: skip
    chosen = [word for setting in settings for word in ("--set", setting)]
    words = ["train", "component-landmarks", "--data", str(data), "--out", str(tmp_path / "run"), *chosen]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output + repr(result.exception)
    lines = [json.loads(line) for line in (tmp_path / "run/stats.jsonl").read_text().splitlines()]
    wanted = {"eye_points", "eye_opening", "mouth_points", "mouth_opening", "iris"}
    assert wanted <= set(lines[0])
    assert {f"{name}_cm" for name in wanted} == set(next(x["validation"] for x in lines if "validation" in x))
    trained = load_component_landmarks(tmp_path / "run/component_landmarks.safetensors").state_dict()
    torch.manual_seed(0)
    begun = ComponentLandmarkNet(ComponentLandmarkConfig(**{**TINY.model_dump()})).state_dict()
    assert all((trained[name] - begun[name].half().float()).abs().max() > 0 for name in begun)
    assert list((tmp_path / "run/samples").glob("*.png"))
