"""Engines of `live` on exported graphs give torch's output, from the photograph to the final image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.config import ModelConfig, parse_config
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.export.base import BaseExport, export_base_model
from megaportraits.export.calibration import SourceCrop
from megaportraits.export.report import ExportReport
from megaportraits.export.tensors import flatten
from megaportraits.live.choice import EngineRequest, choose_engine
from megaportraits.live.engines import (
    GraphBase,
    GraphEncoder,
    GraphStudent,
    Setting,
    TorchBase,
    TorchStudent,
)
from megaportraits.media import VideoReader
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import save_student
from megaportraits.models.student import Student
from megaportraits.pipeline import Avatar, PoseFrom
from megaportraits.pipeline.demo import demo_driver
from tests.conftest import TINY
from tests.export.conftest import heads, shaken

ORT = Setting("onnxruntime", "float32", 1)
TORCH = Setting("torch", "float32", 1)


def test_graphs_draw_a_photograph_as_torch_does(base: BaseModel, base_export: ExportReport) -> None:
    photo = np.ascontiguousarray(skimage.data.astronaut())
    avatar = Avatar(base, pose_from=PoseFrom.NETWORK)
    portrait = avatar.encode(photo)
    small = torch.nn.functional.interpolate(portrait.fine, (64, 64), mode="area")
    portrait = replace(portrait, fine=small)
    by_graph = GraphEncoder(base_export.folder / "encode.onnx").encode(photo)
    assert np.allclose(by_graph.rest.rotation, portrait.rest.rotation, atol=1e-4)
    assert np.array_equal(by_graph.seen, portrait.seen)
    (head,) = heads(1, 32, seed=4)
    wanted = TorchBase(avatar, portrait, TORCH).draw(head.image, head.pose, head.blendshapes)
    by_torch = {name: tensor.numpy() for name, tensor in flatten(portrait.identity).items()}
    for tensors in (by_torch, by_graph.tensors):
        drawn = GraphBase(base_export.folder / "drive.onnx", tensors, small, ORT).draw(
            head.image, head.pose, head.blendshapes
        )
        assert np.abs(drawn.premultiplied - wanted.premultiplied).max() < 5e-3
        assert np.allclose(drawn.pose.rotation, wanted.pose.rotation, atol=1e-4)
        assert drawn.pose.scale == pytest.approx(wanted.pose.scale, rel=1e-4)


def test_graphs_that_take_blendshapes_encode_a_photograph_by_them_as_torch_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    motion = {**TINY["motion"], "blendshapes": ("jawOpen", "mouthSmileLeft")}
    model = shaken(BaseModel(parse_config(ModelConfig, {**TINY, "motion": motion}, "tiny")))
    assert isinstance(model, BaseModel) and model.motion.correction is not None
    model.motion.correction.gain.copy_(torch.randn(12, 2))
    photo = np.ascontiguousarray(skimage.data.astronaut())
    encoded = {
        asked: Avatar(model, pose_from=PoseFrom.LANDMARKS, blendshapes=asked).encode(photo) for asked in (True, False)
    }
    first, *drivers = heads(3, 32, seed=6)
    crop = SourceCrop(first.image, first.pose, first.blendshapes, np.zeros((1, 4, 40, 40), np.float32))
    export_base_model(model, tmp_path, BaseExport(pose="landmarks"), crop, drivers)
    by_graph = torch.from_numpy(GraphEncoder(tmp_path / "encode.onnx").encode(photo).tensors["volume"])
    torch.testing.assert_close(by_graph, encoded[True].identity.volume, atol=5e-3, rtol=0)
    assert (by_graph - encoded[False].identity.volume).abs().max() > 0.02, "the photograph's scores count"


def test_a_student_is_the_same_avatar_in_torch_and_as_a_graph(
    student: Student, student_export: ExportReport, tmp_path: Path
) -> None:
    save_student(tmp_path / "student.safetensors", student)
    (head,) = heads(1, 64, seed=5)
    drawn = {
        name: TorchStudent(tmp_path / "student.safetensors", name, TORCH)
        .draw(head.image, head.pose, head.blendshapes)
        .premultiplied
        for name in ("ada", "cy")
    }
    graph = (
        GraphStudent(student_export.folder / "student.onnx", "cy", ORT)
        .draw(head.image, head.pose, head.blendshapes)
        .premultiplied
    )
    assert np.abs(graph - drawn["cy"]).max() < 0.02, "the file stores float16"
    assert np.abs(graph - drawn["ada"]).max() > 0.05
    with pytest.raises(WeightsError, match="no avatar 'zoe'"):
        GraphStudent(student_export.folder / "student.onnx", "zoe", ORT)


def test_live_records_a_student_driven_by_a_video(student_export: ExportReport, tmp_path: Path) -> None:
    out = tmp_path / "live.mp4"
    words = ["live", "--student", str(student_export.folder / "student.onnx"), "--input", str(demo_driver())]
    words += ["-o", str(out), "--no-window", "--size", "64", "--threads", "1"]
    result = CliRunner().invoke(app, [*words, "--runtime", "onnxruntime", "--precision", "float32"])
    assert result.exit_code == 0, result.output
    assert "Running with onnxruntime float32, 1 thread" in result.output and "latency" in result.output
    frames = [frame.image for frame in VideoReader(out)]
    assert len(frames) >= 2 and frames[0].shape == (64, 64, 3)


def test_requests_that_no_file_can_meet_are_refused_before_anything_runs(
    student_export: ExportReport, tmp_path: Path
) -> None:
    said: list[str] = []
    with pytest.raises(ConfigError, match="neither"):
        choose_engine(None, None, None, "nano", EngineRequest(), say=said.append)
    with pytest.raises(WeightsError, match="does not exist"):
        choose_engine(tmp_path / "none.safetensors", None, None, "nano", EngineRequest(), say=said.append)
    with pytest.raises(ConfigError, match="cannot be run as requested"):
        graph = student_export.folder / "student.onnx"
        choose_engine(graph, None, None, "nano", EngineRequest(runtime="torch"), say=said.append)
    assert said == []
