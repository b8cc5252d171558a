"""Comparison of a student with its teacher (4.5): similarity of their images, speed, size, and an image grid."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megaportraits.data.distillation import DistillationIndex
from megaportraits.data.distillation_dataset import distillation_item, spread
from megaportraits.errors import DataError
from megaportraits.evaluation.metrics.agreement import psnr
from megaportraits.media import check_outputs, write_image
from megaportraits.media.images import UInt8
from megaportraits.media.staging import staged_output
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_student
from megaportraits.models.student import Student
from megaportraits.nn.blocks import fold_weight_standardization
from megaportraits.ops.pictures import resize
from megaportraits.reading import is_file, read_record, shown

Distance = Callable[[UInt8, UInt8], float]

REPORT_FILES = ("report.json", "report.md", "pictures.png")
GREY = 128
"""Grey level of the background of the compared images."""
PAPER = {"psnr": 23.14, "lpips": 0.208}
"""The paper's numbers for its student of 100 avatars against its teacher, at the paper's resolution (4.5)."""
_COLUMNS, _CELL = 8, 128
_TIMED = 15


@dataclass(frozen=True)
class Scores:
    """Means over the images of one avatar.

    Attributes:
        pictures: number of images.
        psnr: PSNR of the student's images against the teacher's, dB.
        still: the same for a baseline without motion, the mean of the avatar's other images; NaN for a single image.
        distance: perceptual distance, 0 for equal images.
    """

    pictures: int
    psnr: float
    still: float
    distance: float


@dataclass
class StudentReport:
    """The result of `measure_student`.

    Attributes:
        student: name of the student's file.
        image_size: side of the student's images, pixels.
        perceptual: name of the perceptual distance, which includes the network's name.
        scores: means for each avatar.
        bytes_shared: size of the weights that all avatars share.
        bytes_per_avatar: size of the weights of one avatar.
        teacher_ms: the teacher's median time for one frame, network alone, on this machine.
        student_ms: the same for the student, measured alternately with the teacher.
        rows: for each avatar, images of driver, teacher and student.
    """

    student: str
    image_size: int
    perceptual: str
    scores: dict[str, Scores]
    bytes_shared: int
    bytes_per_avatar: int
    teacher_ms: float
    student_ms: float
    rows: dict[str, list[tuple[UInt8, UInt8, UInt8]]] = field(default_factory=dict, repr=False)

    def mean(self, name: str) -> float:
        """The mean of a score over the avatars."""
        return statistics.fmean(getattr(scores, name) for scores in self.scores.values())

    def to_json(self) -> str:
        """All numbers as JSON."""
        content: dict[str, Any] = {name: getattr(self, name) for name in ("student", "image_size", "perceptual")}
        content["avatars"] = {name: vars(scores) for name, scores in self.scores.items()}
        content["mean"] = {name: self.mean(name) for name in ("psnr", "still", "distance")}
        for name in ("bytes_shared", "bytes_per_avatar", "teacher_ms", "student_ms"):
            content[name] = getattr(self, name)
        content["speed_up"] = self.teacher_ms / self.student_ms
        return json.dumps(_without_nan(content), indent=1) + "\n"

    def to_markdown(self) -> str:
        """The report as Markdown: a table and three sentences."""
        lines = [
            f"# {self.student} against its teacher, {self.image_size} px",
            "",
            f"| avatar | pictures | PSNR, dB | mean picture's PSNR | {self.perceptual} |",
            "|---|---|---|---|---|",
        ]
        for name, s in self.scores.items():
            lines.append(f"| {name} | {s.pictures} | {s.psnr:.2f} | {s.still:.2f} | {s.distance:.4f} |")
        quality, still, distance = (self.mean(name) for name in ("psnr", "still", "distance"))
        lines += [
            f"| **mean** | | **{quality:.2f}** | {still:.2f} | **{distance:.4f}** |",
            "",
            f"Speed: {self.student_ms:.1f} ms a frame, its teacher {self.teacher_ms:.1f} ms: "
            f"{self.teacher_ms / self.student_ms:.1f} times faster (networks alone, torch, one frame at a time).",
            f"Size: {self.bytes_per_avatar / 1e6:.2f} MB an avatar, {self.bytes_shared / 1e6:.1f} MB shared by all.",
            f"The paper's student of 100 avatars has {PAPER['psnr']} dB and LPIPS {PAPER['lpips']} against its own "
            "teacher, is ten times faster than it, and takes 8 MB an avatar. Drivers were not learned from.",
            "",
        ]
        return "\n".join(lines)

    def grid(self) -> UInt8:
        """An image with three rows for each avatar: driver, teacher, student."""
        blocks, columns = [], max(map(len, self.rows.values()))
        for cells in self.rows.values():
            padded = cells + [(np.zeros_like(cells[0][0]),) * 3] * (columns - len(cells))
            blocks += [np.hstack([cell[row] for cell in padded]) for row in range(3)]
            blocks.append(np.full((4, blocks[-1].shape[1], 3), 255, np.uint8))
        return np.vstack(blocks[:-1])

    def write(self, out: Path, *, overwrite: bool = False) -> list[Path]:
        """Write `REPORT_FILES` into a folder.

        Raises:
            MediaError: a file exists and `overwrite` is false, or the folder cannot be written.
        """
        paths = check_outputs(out, REPORT_FILES, overwrite=overwrite)
        for path, text in zip(paths, (self.to_json(), self.to_markdown()), strict=False):
            with staged_output(path, overwrite=overwrite) as part:
                part.write_text(text, encoding="utf-8")
        write_image(paths[-1], self.grid(), overwrite=overwrite)
        return paths


def measure_student(
    path: Path,
    samples: Path,
    distance: Distance,
    perceptual: str,
    teacher: BaseModel,
    *,
    pictures: int = 50,
    device: torch.device | str = "cpu",
) -> StudentReport:
    """Compare a student with its teacher on held-out distillation samples.

    Args:
        path: the student's file.
        samples: folder with the samples in `val`, and with `distillation.json`, which names the avatars.
        distance: perceptual distance of two images.
        perceptual: name of `distance`.
        teacher: the base model whose speed is compared.
        pictures: largest number of images for each avatar.
        device: device on which both run.

    Raises:
        DataError: there are no samples, or the samples show none of the student's avatars.
        WeightsError: the student cannot be read.
    """
    student = load_student(path, device)
    fold_weight_standardization(student)
    index, names = DistillationIndex(samples / "val"), _names(samples)
    known = {number: student.find(name) for number, name in enumerate(names) if name in student.avatars}
    if not known:
        raise DataError(
            f"{samples} shows {', '.join(names)}; {path} has none of them", fix="Give the run folder of this student."
        )
    found: dict[str, list[tuple[UInt8, UInt8, UInt8]]] = {names[number]: [] for number in known}
    for sample, avatar in spread(index, pictures * len(names)):
        if avatar in known:
            found[names[avatar]].append(_compare(student, index, sample, avatar, known[avatar]))
    found = {name: rows for name, rows in found.items() if rows}
    teacher_ms, student_ms = _speed(teacher, student, torch.device(device))
    return StudentReport(
        path.name,
        student.config.image_size,
        perceptual,
        {name: _score(rows, distance) for name, rows in found.items()},
        student.bytes_shared(),
        student.bytes_per_avatar(),
        teacher_ms,
        student_ms,
        {
            name: [_cells(row) for row in rows[:: max(1, len(rows) // _COLUMNS)][:_COLUMNS]]
            for name, rows in found.items()
        },
    )


def _names(samples: Path) -> list[str]:
    path = samples / "distillation.json"
    fix = "Give the run folder that `megaportraits distill` filled."
    if not is_file(path, DataError):
        raise DataError(f"no distillation samples in {samples}", fix=fix)
    avatars = read_record(path, DataError, fix=fix).get("avatars")
    if not isinstance(avatars, dict) or not avatars:
        raise DataError(f"{path}: expected avatars by name, got {shown(avatars)}", fix=fix)
    return list(avatars)


def _compare(
    student: Student, index: DistillationIndex, sample: int, avatar: int, own: int
) -> tuple[UInt8, UInt8, UInt8]:
    config, device = student.config, next(student.parameters()).device
    item = distillation_item(index, sample, avatar, driver_size=config.input_size, size=config.image_size)
    background = GREY / 255
    with torch.inference_mode():
        output = student(item.driver.image[None].to(device).float() / 255, torch.tensor([own], device=device))
    drawn = output.over(torch.full((1, 3, 1, 1), background, device=device))[0].cpu()
    wanted = item.image / 255 + background * (1 - item.matte / 255)
    return _pixels(item.driver.image / 255), _pixels(wanted), _pixels(drawn)


def _score(rows: list[tuple[UInt8, UInt8, UInt8]], distance: Distance) -> Scores:
    total, others = np.sum([wanted.astype(np.float64) for _, wanted, _ in rows], axis=0), len(rows) - 1
    baselines = [psnr((total - wanted) / others, wanted) for _, wanted, _ in rows] if others else [float("nan")]
    return Scores(
        len(rows),
        _mean(psnr(drawn, wanted) for _, wanted, drawn in rows),
        _mean(baselines),
        _mean(distance(drawn, wanted) for _, wanted, drawn in rows),
    )


def _without_nan(value: Any) -> Any:
    """Replace NaN by None, because JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and value != value else value


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(min(value, 99.0) for value in values)  # the PSNR of equal images is infinite


def _speed(teacher: BaseModel, student: Student, device: torch.device) -> tuple[float, float]:
    """Milliseconds per frame of teacher and student, one frame at a time.

    The measurements alternate, so that other load on the machine affects both equally.
    """
    teacher, student = deepcopy(teacher).to(device), deepcopy(student)
    fold_weight_standardization(teacher)
    size, small = teacher.config.image_size, student.config.input_size
    frame, driver = (torch.rand(1, 3, n, n, device=device) for n in (size, small))
    with torch.inference_mode():
        person, avatar = teacher.encode(frame), student.identity(torch.zeros(1, dtype=torch.long, device=device))
        jobs: Mapping[str, Callable[[], object]] = {
            "teacher": lambda: teacher.drive(person, frame),
            "student": lambda: student.render(driver, avatar),
        }
        times: dict[str, list[float]] = {name: [] for name in jobs}
        for turn in range(_TIMED + 3):
            for name, job in jobs.items():
                began = time.perf_counter()
                job()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if turn >= 3:
                    times[name].append(1e3 * (time.perf_counter() - began))
    return statistics.median(times["teacher"]), statistics.median(times["student"])


def _pixels(image: Tensor) -> UInt8:
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def _cells(row: tuple[UInt8, UInt8, UInt8]) -> tuple[UInt8, UInt8, UInt8]:
    return (_cell(row[0]), _cell(row[1]), _cell(row[2]))


def _cell(image: UInt8) -> UInt8:
    return resize(image, _CELL)
