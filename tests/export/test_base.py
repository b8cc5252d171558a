"""Exported graphs of the base model give torch's output, also for people and drivers that they were not traced with."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import numpy as np
import pytest
import torch

import megaportraits
from megaportraits.config import ModelConfig, parse_config
from megaportraits.errors import ExportError, MediaError
from megaportraits.export.base import BaseExport, export_base, export_base_model
from megaportraits.export.calibration import SourceCrop
from megaportraits.export.report import ExportReport
from megaportraits.export.tensors import flatten
from megaportraits.live.engines import GraphBase, Setting
from megaportraits.models.base import BaseModel
from megaportraits.models.disocclusion import fill_disocclusions
from megaportraits.models.motion import infer_motion
from megaportraits.models.source_skip import copy_large
from megaportraits.pipeline import Avatar, Portrait, PoseFrom
from megaportraits.pipeline.motion import edit_motion
from megaportraits.runtimes import open_graph, read_info
from megaportraits.runtimes.arrays import image_array
from tests.conftest import TINY
from tests.export.conftest import heads, shaken


def expected(base: BaseModel, source: np.ndarray, driver: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Picture and alpha (4, S, S) by the model itself, as `Avatar.drive` makes them."""
    with torch.no_grad():
        identity = base.encode(torch.from_numpy(source))
        output = base.render(identity, edit_motion(identity.motion, infer_motion(base, torch.from_numpy(driver))))
        large = torch.from_numpy(fine)
        output = fill_disocclusions(output, large)
        assert output.alpha is not None and output.view is not None
        picture = torch.cat([output.image, output.alpha], 1)
        return np.asarray(copy_large(picture, large, output.view)[0])


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_graphs_equal_torch_for_people_and_drivers_they_were_not_traced_with(
    base: BaseModel, base_export: ExportReport, runtime: str
) -> None:
    pytest.importorskip(runtime)
    encode = open_graph(base_export.folder / "encode.onnx", runtime)  # type: ignore[arg-type]
    drive = open_graph(base_export.folder / "drive.onnx", runtime)  # type: ignore[arg-type]
    source, driver = (image_array(head.image) for head in heads(2, 32, seed=9))
    fine = np.random.default_rng(3).random((1, 4, 64, 64)).astype(np.float32)
    identity = encode({"photo": source})
    got = drive({"driver": driver, "fine": fine, **identity})
    picture = np.concatenate([got["image"], got["alpha"]], 1)[0]
    assert picture.shape == (4, 64, 64)
    assert np.abs(picture - expected(base, source, driver, fine)).max() < 2e-3
    assert np.abs(got["rendered_rotation"][0] @ got["rendered_rotation"][0].T - np.eye(3)).max() < 1e-4


def test_the_identity_is_what_the_frame_graph_reads_and_no_more(base_export: ExportReport) -> None:
    encode, drive = (open_graph(base_export.folder / f"{name}.onnx") for name in ("encode", "drive"))
    identity = {name for name in encode.outputs if not name.startswith("motion.pose.")}
    assert identity == {"volume", "descriptor", "displacement", "source", "surface", "motion.expression.z"}
    poses = {f"motion.pose.{name}" for name in ("rotation", "translation", "scale")}
    assert set(encode.outputs) == identity | poses
    assert set(drive.inputs) == {"driver", "fine", *identity, *poses}, "where the source's pixels are takes its pose"


def test_files_describe_themselves_and_tell_nothing_of_this_machine(base_export: ExportReport) -> None:
    info = read_info(base_export.folder / "drive-int8.onnx")
    assert (info.kind, info.precision, info.image_size, info.matte) == ("base-drive", "int8", 64, True)
    assert info.license == "Apache-2.0" and info.version == megaportraits.__version__
    assert parse_config(ModelConfig, json.loads(info.model), "file") == parse_config(ModelConfig, TINY, "tiny")
    package = str(Path(megaportraits.__file__).parent).encode()
    assert all(package not in path.read_bytes() for path in base_export.folder.glob("*.onnx"))


def test_the_report_says_what_smaller_numbers_cost(base_export: ExportReport) -> None:
    rows = {row.file: row for row in base_export.rows}
    files = {"drive.onnx", "drive-float16.onnx", "drive-int8.onnx", "encode.onnx", "encode-float16.onnx"}
    assert set(rows) == files == {path.name for path in base_export.folder.glob("*.onnx")}
    full, half, eight = (rows[f"drive{suffix}.onnx"] for suffix in ("", "-float16", "-int8"))
    assert full.psnr is not None and half.psnr is not None and eight.psnr is not None
    assert full.difference < 1e-3 < eight.difference
    assert full.psnr > 60 and 15 < half.psnr < full.psnr and 15 < eight.psnr < full.psnr
    assert half.megabytes < full.megabytes
    saved = json.loads(base_export.path.read_text(encoding="utf-8"))["files"]
    assert {entry["file"] for entry in saved} == files


def test_existing_files_are_kept_and_impossible_sizes_are_refused(base: BaseModel, base_export: ExportReport) -> None:
    head = heads(1, 32)[0]
    source = SourceCrop(head.image, head.pose, head.blendshapes, np.zeros((1, 4, 40, 40), np.float32))
    with pytest.raises(ExportError, match="size: expected 32 to 128, got 500"):
        export_base_model(base, base_export.folder, BaseExport(size=500), source, [head])
    before = (base_export.folder / "encode.onnx").read_bytes()
    with pytest.raises(MediaError, match="exists already"):
        export_base_model(base, base_export.folder, BaseExport(), source, [head])
    assert (base_export.folder / "encode.onnx").read_bytes() == before


@pytest.mark.parametrize(("pose", "appends"), [("network", False), ("landmarks", False), ("landmarks", True)])
def test_graphs_take_measured_blendshapes_as_torch_does(
    pose: Literal["network", "landmarks"], appends: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    motion = {**TINY["motion"], "blendshapes": ("jawOpen", "eyeBlinkLeft"), "append_blendshapes": appends}
    model = shaken(BaseModel(parse_config(ModelConfig, {**TINY, "motion": motion}, "tiny")))
    assert isinstance(model, BaseModel) and model.motion.correction is not None
    model.motion.correction.gain.copy_(torch.randn(12, 2))
    person, *drivers = heads(3, 32, seed=6)
    fine = np.random.default_rng(1).random((1, 4, 64, 64)).astype(np.float32)
    source = SourceCrop(person.image, person.pose, person.blendshapes, fine)
    export_base_model(model, tmp_path, BaseExport(pose=pose), source, drivers)
    avatar = Avatar(model, pose_from=PoseFrom(pose))
    with torch.inference_mode():
        identity = model.encode(torch.from_numpy(image_array(person.image)))
    portrait = SimpleNamespace(identity=identity, motion=identity.motion, fine=torch.from_numpy(fine), kept=None)
    setting = Setting("onnxruntime", "float32", 1)
    tensors = {name: tensor.numpy() for name, tensor in flatten(identity).items()}
    engine = GraphBase(tmp_path / "drive.onnx", tensors, portrait.fine, setting)
    pictures = []
    for scores in (drivers[0].blendshapes, np.full(52, np.nan, np.float32)):
        drawn = engine.draw(drivers[0].image, drivers[0].pose, scores).premultiplied
        given = scores if pose == "landmarks" else None
        wanted = avatar.drive(
            cast(Portrait, portrait), drivers[0].image, pose=drivers[0].pose, blendshapes=given
        ).premultiplied
        assert np.abs(drawn - wanted).max() < 5e-3
        pictures.append(drawn)
    changed = np.abs(pictures[0] - pictures[1]).max()
    assert changed > 0.02 if pose == "landmarks" else changed == 0


def test_shipped_nano_with_poses_by_landmarks_equals_torch(tmp_path: Path) -> None:
    report = export_base("nano", tmp_path, BaseExport(pose="landmarks", frames=2))
    drive = open_graph(tmp_path / "drive.onnx")
    assert {"rotation", "translation", "scale"} <= set(drive.inputs)
    assert [row.file for row in report.rows] == ["encode.onnx", "drive.onnx"]
    frame = report.rows[1]
    assert frame.difference < 1e-3 and frame.psnr is not None and frame.psnr > 70
