"""A folder of exports keeps what its report says of all files in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megaportraits.errors import MediaError
from megaportraits.export.report import ExportReport, Row, plan_files


def row(file: str) -> Row:
    return Row(file, "float32", 1.0, 0.0, None, {})


def files_of(report: Path) -> list[str]:
    return [entry["file"] for entry in json.loads(report.read_text(encoding="utf-8"))["files"]]


def test_two_exports_into_one_folder_are_both_in_its_report(tmp_path: Path) -> None:
    for file in ("encode.onnx", "drive.onnx", "student.onnx"):
        (tmp_path / file).touch()
    ExportReport(tmp_path, [row("encode.onnx"), row("drive.onnx")]).save()
    assert plan_files(tmp_path, "teacher", ["float32"], overwrite=False)
    (tmp_path / "encode.onnx").unlink()
    report = ExportReport(tmp_path, [row("student.onnx"), row("drive.onnx")])
    report.save()
    assert files_of(report.path) == ["student.onnx", "drive.onnx"]
    ExportReport(tmp_path, [row("student.onnx")]).save()
    assert files_of(report.path) == ["student.onnx", "drive.onnx"]


@pytest.mark.parametrize("text", ["", "{}", '{"files": [1]}', '{"files": 3}', "[" * 100_000, "\x00"])
def test_a_report_of_something_else_is_not_replaced(text: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(MediaError, match=r"report\.json: the file exists already"):
        plan_files(tmp_path, "student", ["float32"], overwrite=False)
    assert plan_files(tmp_path, "student", ["float32"], overwrite=True)
