"""Export a student as one ONNX graph, with all avatars (chosen by an index) or a single one."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from megaportraits import __version__
from megaportraits.choices import GraphPrecision
from megaportraits.config.options import convert_options
from megaportraits.export.calibration import HeadCrop, driver_crops
from megaportraits.export.graphs import BakedStudentGraph, StudentGraph
from megaportraits.export.report import Case, ExportReport, plan_files, write_precisions
from megaportraits.export.write import trace
from megaportraits.models.storage import load_student
from megaportraits.models.student import Student
from megaportraits.nn.blocks import fold_weight_standardization
from megaportraits.pipeline.demo import demo_driver
from megaportraits.pipeline.driver import Driver
from megaportraits.runtimes import GraphInfo
from megaportraits.runtimes.arrays import image_array


@dataclass(frozen=True)
class StudentExport:
    """Options of `export_student`.

    Attributes:
        avatar: name of the only avatar to include; None includes all, and the graph gets an input `avatar`.
        precisions: precisions to write; "float32" is always written, and the others are compared with it.
        driver: image or video with a face, for calibration and measurement.
        frames: number of its frames to use.
        overwrite: whether existing files may be replaced.
    """

    avatar: str | None = None
    precisions: tuple[GraphPrecision, ...] = ("float32",)
    driver: Driver = field(default_factory=demo_driver)
    frames: int = 24
    overwrite: bool = False

    def __post_init__(self) -> None:
        convert_options(self, keep=("driver",))


def export_student(weights: Path, out: Path, options: StudentExport | None = None) -> ExportReport:
    """Write `student.onnx` (and `student-int8.onnx`, ...) to a folder, and measure them.

    Args:
        weights: the file that `megaportraits distill` wrote.
        out: the folder; created if missing.
        options: see `StudentExport`.

    Raises:
        WeightsError: no such weights, or no such avatar.
        ExportError: the export fails, or the graph's output differs from torch's.
        MediaError: a file exists, or cannot be read or written.
    """
    options = options or StudentExport()
    student = load_student(weights)
    drivers = driver_crops(options.driver, student.config.input_size, options.frames)
    return export_student_model(student, out, options, drivers)


def export_student_model(student: Student, out: Path, options: StudentExport, drivers: list[HeadCrop]) -> ExportReport:
    """`export_student` for a model in memory and faces that are already cropped."""
    plan_files(out, "student", options.precisions, overwrite=options.overwrite)
    student = deepcopy(student)
    fold_weight_standardization(student)
    graph: nn.Module
    if options.avatar is None:
        graph, avatars = StudentGraph(student), student.avatars
    else:
        graph, avatars = BakedStudentGraph(alone(student, student.find(options.avatar))), (options.avatar,)
    cases = [_inputs(crop, index % len(avatars), options.avatar is None) for index, crop in enumerate(drivers)]
    outputs = ("image", "alpha") if student.config.predict_matte else ("image",)
    proto = trace(graph, cases[0], outputs, "gathers")
    info = GraphInfo(
        "student",
        student.config.image_size,
        matte=student.config.predict_matte,
        avatars=avatars,
        model=student.config.model_dump_json(),
        version=__version__,
    )
    report = ExportReport(out)
    arrays: list[Case] = [{name: tensor.numpy() for name, tensor in case.items()} for case in cases]
    write_precisions(report, "student", proto, info, graph, arrays, options.precisions, overwrite=options.overwrite)
    report.save()
    return report


def alone(student: Student, index: int) -> Student:
    """A copy of a student that holds only the avatar with this index; it shares no tensors with the original."""
    single = deepcopy(student)
    single.avatars = (student.avatars[index],)
    single.tensors = nn.ParameterList(rows[index : index + 1].clone() for rows in student.tensors)
    return single


def _inputs(crop: HeadCrop, avatar: int, by_index: bool) -> dict[str, Tensor]:
    driver = {"driver": torch.from_numpy(image_array(crop.image))}
    return {**driver, "avatar": torch.tensor([avatar])} if by_index else driver
