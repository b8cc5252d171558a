"""`train gaze` and `train head-pose`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.config import (
    HeadPoseConfig,
    ModelConfig,
    OptimConfig,
    TrainGazeConfig,
    TrainHeadPoseConfig,
    load_config,
)
from megaportraits.data.batches import FrameBatch, collate
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ShardWriter
from megaportraits.data.frames import FrameDataset
from megaportraits.errors import DataError, WeightsError
from megaportraits.faces.outlines import FEATURES
from megaportraits.models.base import BaseModel
from megaportraits.models.gaze import EYES_CM, LANDMARK_COUNT
from megaportraits.models.storage import load_gaze, load_head_pose
from megaportraits.ops.geometry import HeadPose, euler_to_matrix
from megaportraits.ops.warping import project
from megaportraits.training.frames import augment_frames
from megaportraits.training.gaze import GazeStage, angle_between
from megaportraits.training.schedule import learning_rate

SMALL = [
    "run.accelerator=cpu", "run.log_every=1", "run.sample_every=2", "run.tensorboard=false", "run.precision=32-true",
    "data.workers=0", "data.size=32", "optim.batch_size=4",
]  # fmt: skip
SMALL_GAZE = [
    *SMALL, "model.eye_size=16", "model.widths=[[4],[6]]", "model.eyes=8", "model.keypoints=4", "model.hidden=4",
]  # fmt: skip


@pytest.fixture
def nested(clips: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for part in ("train", "val"):
        (folder / part).symlink_to(clips)
    return folder


def run(command: str, data: Path, out: Path, settings: list[str], *more: str) -> list[dict]:
    chosen = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(app, ["train", command, "--data", str(data), "--out", str(out), *chosen, *more])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return [json.loads(line) for line in (out / "stats.jsonl").read_text().splitlines()]


def test_train_gaze_reports_its_error_and_writes_weights(nested: Path, tmp_path: Path) -> None:
    lines = run("gaze", nested, tmp_path / "run", [*SMALL_GAZE, "optim.steps=4"])
    assert {"gaze", "blink"} <= set(lines[0])
    validation = [line["validation"] for line in lines if "validation" in line]
    assert len(validation) == 2 and {"gaze_degrees", "gaze_degrees_if_straight"} <= set(validation[0])
    assert load_gaze(tmp_path / "run/gaze.safetensors").config.eye_size == 16
    assert list((tmp_path / "run/samples").glob("*.png"))


def test_train_gaze_distils_a_label_file(nested: Path, tmp_path: Path) -> None:
    (tmp_path / "teacher.csv").write_text("key,frame,yaw,pitch,blink\nc1,0,3,4,0.5\nc2,3,3,4,0.5\n")
    lines = run("gaze", nested, tmp_path / "run", [*SMALL_GAZE, "epochs=4"], "--labels", str(tmp_path / "teacher.csv"))
    assert max(line["step"] for line in lines) == 2  # 4 epochs of 2 frames in batches of 4
    assert all(line["blink"] > 0 for line in lines if "blink" in line)


def test_train_head_pose_fits_into_a_base_model(nested: Path, tmp_path: Path, tiny_config: ModelConfig) -> None:
    model = ["model.width=4", "model.size=32", "model.groups=2", "model.weight_standardization=paper"]
    lines = run("head-pose", nested, tmp_path / "run", [*SMALL, *model, "optim.steps=4"])
    assert {"degrees", "translation", "scale"} == set(next(x["validation"] for x in lines if "validation" in x))
    base = BaseModel(tiny_config)
    before = base.motion.head_pose.head.weight.clone()
    load_head_pose(tmp_path / "run/head_pose.safetensors", base)
    assert not torch.equal(before, base.motion.head_pose.head.weight)
    other = BaseModel(tiny_config.model_copy(update={"groups": 4}))
    with pytest.raises(WeightsError, match="groups=2"):
        load_head_pose(tmp_path / "run/head_pose.safetensors", other)


@pytest.mark.parametrize("model", ["nano", "paper-512"])
def test_the_shipped_head_pose_configs_fit_the_shipped_models(model: str) -> None:
    from megaportraits.config import TrainBaseConfig

    name = "head-pose-nano" if model == "nano" else "head-pose"
    wanted = HeadPoseConfig.of(load_config(TrainBaseConfig, model).model)
    assert load_config(TrainHeadPoseConfig, name).model == wanted


def write_landmarked(folder: Path) -> None:
    """A clip of four frames of which two have landmarks, and one without any."""
    rng = np.random.default_rng(0)
    with ShardWriter(folder, 0) as shard:
        for key, known in (("with", 2), ("without", 0)):
            points = [rng.uniform(-0.5, 0.5, (478, 2)).astype(np.float32) for _ in range(known)]
            labels = tuple(
                FrameLabels(np.eye(3), np.zeros(2), 1.0, gaze=np.zeros(2, np.float32), landmarks=mark)
                for mark in [*points, *[None] * (4 - known)]
            )
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            frames = [ClipFrame(pixels, np.full((32, 32), 255, np.uint8), label) for label in labels]
            shard.write(ClipRecord(key, "real", key, None, 32, 25.0, (), labels), frames)


def test_the_papers_gaze_network_sees_the_stored_landmarks(tmp_path: Path) -> None:
    """B.5: "features from 2D keypoints"; twelve points of a neutral head say nothing but how it is turned."""
    assert len(FEATURES) == LANDMARK_COUNT
    assert load_config(TrainGazeConfig, "gaze").model.keypoint_input == "landmarks"
    data = tmp_path / "data"
    write_landmarked(data)
    dataset = FrameDataset(data, length=0, size=32, landmarks=True)
    assert len(dataset) == 2
    items = [dataset[k] for k in range(4)]
    batch = collate(items)
    torch.manual_seed(0)
    config = load_config(TrainGazeConfig, "gaze-nano", [*SMALL_GAZE, "model.keypoint_input=landmarks"])
    stage = GazeStage(config)
    assert stage.model.keypoints[0].in_features == 2 * 143
    losses = stage("network", batch, 1, torch.Generator().manual_seed(0))
    assert batch.landmarks is not None
    moved = replace(batch, landmarks=batch.landmarks * torch.tensor([1.0, 1.4]))
    assert float(losses["gaze"]) != float(stage("network", moved, 1, torch.Generator().manual_seed(0))["gaze"])
    run("gaze", data, tmp_path / "run", [*SMALL_GAZE, "model.keypoint_input=landmarks", "optim.steps=1"])
    assert load_gaze(tmp_path / "run/gaze.safetensors").config.keypoint_input == "landmarks"


def test_clips_without_landmarks_are_refused_where_the_network_sees_them(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has landmarks") as error:
        FrameDataset(clips, length=0, size=32, landmarks=True)
    assert "keypoint_input=pose" in error.value.fix


def test_one_changed_value_does_not_lose_the_recipes_others() -> None:
    changed = load_config(TrainGazeConfig, "gaze-nano", ["optim.batch_size=4"]).optim
    assert changed == load_config(TrainGazeConfig, "gaze").optim.model_copy(update={"batch_size": 4})


@pytest.mark.parametrize("steps", [50, 333])
def test_one_cycle_is_torchs(steps: int) -> None:
    optim = OptimConfig(steps=steps, schedule="one-cycle", learning_rate=8e-4)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-4, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        assert learning_rate(optim, step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6, abs=1e-12)
        optimizer.step()
        reference.step()


@pytest.mark.parametrize(("steps", "pct_start"), [(10, 0.1), (2, 0.5), (1, 0.1)])
def test_one_cycle_without_a_way_up_begins_at_the_top(steps: int, pct_start: float) -> None:
    optim = OptimConfig(steps=steps, pct_start=pct_start, schedule="one-cycle", learning_rate=8e-4)
    rates = [learning_rate(optim, step) for step in range(steps)]
    assert rates == sorted(rates, reverse=True)
    if steps > 1:
        assert rates[0] == pytest.approx(8e-4) and rates[-1] == pytest.approx(8e-4 / 25e4)


def test_a_jittered_crop_keeps_image_and_pose_together() -> None:
    """A bright dot on an eye stays on the projection of that eye."""
    pose = HeadPose(euler_to_matrix(10, 0, 5), np.array([0.05, 0.0]), 1.0)
    x, y = ((pose.project(np.array(EYES_CM[:1]))[0, :2] + 1) * 64).astype(int)
    image = torch.zeros(1, 3, 128, 128, dtype=torch.uint8)
    image[..., y - 2 : y + 3, x - 2 : x + 3] = 255
    unused = torch.zeros(1)
    labels = FrameBatch(
        image=image,
        matte=torch.full((1, 1, 128, 128), 255, dtype=torch.uint8),
        rotation=torch.tensor(pose.rotation, dtype=torch.float32)[None],
        translation=torch.tensor([[0.05, 0.0]]),
        scale=torch.ones(1),
        gaze=torch.zeros(1, 2),
        blink=unused,
        real=unused,
        clip=unused,
        frame=unused,
    )
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        moved = augment_frames(labels, generator, mirrors=True)
        mirrored = not torch.equal(moved.rotation, labels.rotation)
        eye = torch.tensor(EYES_CM[1:] if mirrored else EYES_CM[:1])
        expected = (project(eye, moved.pose)[0, 0] + 1) * 64
        row, column = divmod(int(moved.image[0].sum(0).argmax()), 128)
        assert abs(column + 0.5 - expected[0]) < 4 and abs(row + 0.5 - expected[1]) < 4


def test_angles_between_gazes_are_exact() -> None:
    a = torch.deg2rad(torch.tensor([[20.0, 0.0], [0.0, 15.0], [10.0, 10.0]]))
    b = torch.deg2rad(torch.tensor([[-10.0, 0.0], [0.0, -5.0], [10.0, 10.0]]))
    torch.testing.assert_close(torch.rad2deg(angle_between(a, b)), torch.tensor([30.0, 20.0, 0.0]), atol=0.03, rtol=0)


def test_errors_on_real_and_rendered_clips_are_reported_separately(tmp_path: Path) -> None:
    from megaportraits.training.head_pose import HeadPoseStage

    labels = FrameLabels(euler_to_matrix(30, 0, 0), np.zeros(2), 1.0)
    frame = ClipFrame(np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8), labels)
    with ShardWriter(tmp_path, 0) as shard:
        shard.write(ClipRecord("r", "real", "p", None, 32, 25.0, (), (labels,)), [frame])
    item = FrameDataset(tmp_path, length=1, size=32)[0]
    stage = HeadPoseStage(TrainHeadPoseConfig(model=HeadPoseConfig(width=4, size=32, groups=2)))
    _, numbers = stage.sample(stage.model, collate([item]))
    # An untrained network says "frontal": 30 degrees off.
    assert numbers["degrees_real"] == pytest.approx(30, abs=1e-3)
