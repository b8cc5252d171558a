from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from megaportraits.config import ModelConfig, StudentConfig, parse_config
from megaportraits.data.distillation import DistillationIndex, DistillationSample, shard_path, write_shard
from megaportraits.data.distillation_dataset import distillation_item
from megaportraits.errors import DataError
from megaportraits.evaluation.student import measure_student
from megaportraits.media import read_image
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_student, save_student
from megaportraits.models.student import Student
from megaportraits.ops.geometry import HeadPose
from tests.conftest import TINY_STUDENT


@pytest.fixture
def student(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = Student(parse_config(StudentConfig, TINY_STUDENT, "tiny"), ["ann", "bob"])
    save_student(tmp_path / "s.safetensors", model)
    return tmp_path / "s.safetensors"


@pytest.fixture
def samples(student: Path, tmp_path: Path) -> Path:
    """Of ann it is exactly what the student draws, of bob it is 10 levels brighter."""
    model, rng = load_student(student), np.random.default_rng(0)
    pose, matte = HeadPose(np.eye(3), np.zeros(2), 1.0), np.full((64, 64), 255, np.uint8)
    drivers = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(3)]
    folder = tmp_path / "distillation"
    blank = np.zeros((64, 64, 4), np.uint8)
    made = [DistillationSample(f"{i}", f"d{i}", d, matte, pose, {0: blank, 1: blank}) for i, d in enumerate(drivers)]
    write_shard(shard_path(folder / "val", 0), made)
    index, final = DistillationIndex(folder / "val"), []
    for number, sample in enumerate(made):
        pictures = {}
        for avatar in (0, 1):
            item = distillation_item(index, number, avatar, driver_size=64, size=64)  # the driver as JPEG keeps it
            with torch.inference_mode():
                drawn = model(item.driver.image[None] / 255, torch.tensor([avatar])).over(
                    torch.full((1, 3, 1, 1), 128 / 255)
                )
            colours = (drawn[0].permute(1, 2, 0) * 255).round().numpy() + 10 * avatar
            pictures[avatar] = np.dstack([colours, np.full((64, 64), 255)]).clip(0, 255).astype(np.uint8)
        final.append(DistillationSample(sample.key, sample.origin, sample.driver, matte, pose, pictures))
    write_shard(shard_path(folder / "val", 0), final)
    (folder / "distillation.json").write_text(json.dumps({"avatars": {"ann": "0", "bob": "1"}}))
    return folder


def difference(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(image.astype(float) - truth).mean())


def test_scores_say_how_far_a_student_is_from_its_teacher(
    student: Path, samples: Path, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    report = measure_student(student, samples, difference, "levels", BaseModel(tiny_config).eval())
    ann, bob = report.scores["ann"], report.scores["bob"]
    assert (ann.pictures, bob.pictures) == (3, 3)
    assert ann.psnr > 38, "but for JPEG the same"
    assert bob.psnr == pytest.approx(20 * np.log10(255 / 10), abs=0.5)
    assert bob.distance == pytest.approx(10, abs=0.3) and ann.distance < 3
    assert report.mean("psnr") == pytest.approx((ann.psnr + bob.psnr) / 2)
    assert report.teacher_ms > 0 and report.student_ms > 0
    written = student.stat().st_size
    assert written == pytest.approx(report.bytes_shared + 2 * report.bytes_per_avatar, rel=0.6, abs=20_000)

    report.write(tmp_path / "out")
    numbers = json.loads((tmp_path / "out/report.json").read_text())
    assert numbers["avatars"]["bob"]["psnr"] == bob.psnr and numbers["perceptual"] == "levels"
    text = (tmp_path / "out/report.md").read_text()
    assert f"| bob | 3 | {bob.psnr:.2f} |" in text and "levels" in text
    assert read_image(tmp_path / "out/pictures.png").shape == (2 * 3 * 128 + 4, 3 * 128, 3)


def test_the_baseline_is_a_picture_that_does_not_move(student: Path, samples: Path, tiny_config: ModelConfig) -> None:
    index = DistillationIndex(samples / "val")
    over = [index.read(i, [1]).pictures[1][..., :3].astype(float) for i in range(3)]
    stills = [(over[1] + over[2]) / 2, (over[0] + over[2]) / 2, (over[0] + over[1]) / 2]
    expected = np.mean(
        [20 * np.log10(255 / np.sqrt(((still - x) ** 2).mean())) for still, x in zip(stills, over, strict=True)]
    )
    report = measure_student(student, samples, difference, "levels", BaseModel(tiny_config).eval())
    assert report.scores["bob"].still == pytest.approx(expected, abs=0.1)


def test_samples_of_other_avatars_are_refused(student: Path, samples: Path, tiny_config: ModelConfig) -> None:
    (samples / "distillation.json").write_text(json.dumps({"avatars": {"eve": "0"}}))
    with pytest.raises(DataError, match="has none of them"):
        measure_student(student, samples, difference, "levels", BaseModel(tiny_config).eval())
