"""Report of an export: its files, their parity with torch, quality, size and speed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from megaportraits.choices import GraphPrecision
from megaportraits.errors import ExportError, WeightsError
from megaportraits.export.precision import to_float16, to_int8
from megaportraits.export.write import write_graph
from megaportraits.media import check_output
from megaportraits.media.staging import staged_output
from megaportraits.ops.pictures import psnr_of
from megaportraits.reading import FAULTS
from megaportraits.runtimes import Graph, GraphInfo, available_runtimes, open_graph

Case = Mapping[str, npt.NDArray[Any]]
"""A graph's inputs by name."""
PARITY = 1e-3
"""Largest allowed difference between a float32 graph and torch, as a fraction of the output's range."""
_TIMED = 15


@dataclass(frozen=True)
class PrecisionRow:
    """Measurements of one file.

    Attributes:
        file: its name.
        precision: see `GraphPrecision`.
        megabytes: its size.
        difference: largest difference from torch in float32, as a fraction of the output's range (1 for images).
        psnr: PSNR of the image against torch in float32, mean over the frames, dB; infinite if all are equal, None
            for graphs without an image output.
        milliseconds: median time of one run for each runtime; None where a runtime cannot run the file.
    """

    file: str
    precision: str
    megabytes: float
    difference: float
    psnr: float | None
    milliseconds: dict[str, float | None]


@dataclass
class ExportReport:
    """Measurements of all files of one export.

    Attributes:
        folder: the folder of the files.
        rows: one for each file.
    """

    folder: Path
    rows: list[PrecisionRow] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The path of the report, `report.json`."""
        return self.folder / "report.json"

    def save(self) -> None:
        """Write `report.json`. Rows of an earlier report are kept for other files that still exist."""
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            row["psnr"] = None if row["psnr"] is None or np.isinf(row["psnr"]) else row["psnr"]
        written = {row["file"] for row in rows}
        earlier = _rows_of(self.path) or []
        rows += [row for row in earlier if row["file"] not in written and (self.folder / row["file"]).is_file()]
        with staged_output(self.path, overwrite=True) as part:
            part.write_text(json.dumps({"torch": torch.__version__, "files": rows}, indent=1) + "\n", encoding="utf-8")


def _rows_of(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a report that `ExportReport.save` wrote; None if the file is not such a report."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["files"]
        return rows if all(isinstance(row["file"], str) for row in rows) else None
    except FAULTS:
        return None


def plan_files(
    folder: Path, stem: str, precisions: Sequence[GraphPrecision], *, overwrite: bool
) -> dict[GraphPrecision, Path]:
    """The paths that `write_precisions` will write, float32 first; checked before the work begins.

    Raises:
        MediaError: a file exists already, or a `report.json` that no export wrote.
    """
    report = folder / "report.json"
    check_output(report, overwrite=overwrite or _rows_of(report) is not None)
    wanted: list[GraphPrecision] = ["float32", *(p for p in precisions if p != "float32")]
    names = {p: f"{stem}.onnx" if p == "float32" else f"{stem}-{p}.onnx" for p in wanted}
    return {p: check_output(folder / name, overwrite=overwrite) for p, name in names.items()}


def write_precisions(
    report: ExportReport,
    stem: str,
    proto: Any,
    info: GraphInfo,
    module: nn.Module,
    cases: Sequence[Case],
    precisions: Sequence[GraphPrecision],
    *,
    keep_in_int8: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write `STEM.onnx` and one `STEM-PRECISION.onnx` for every other precision; measure each against torch.

    Args:
        report: receives a row for each file.
        stem: stem of the file names.
        proto: the float32 graph.
        info: description of the float32 graph.
        module: the torch reference; takes the cases' arrays in their order.
        cases: real inputs, for comparison and for the calibration of int8.
        precisions: precisions to write; float32 is always written.
        keep_in_int8: see `precision.to_int8`.
        overwrite: whether existing files may be replaced.

    Raises:
        ExportError: the float32 graph's output differs from torch's, or a graph's output is not finite.
        MediaError: a file exists, or cannot be written.
    """
    paths = plan_files(report.folder, stem, precisions, overwrite=overwrite)
    with torch.no_grad():
        expected = [[t.numpy() for t in module(*map(torch.from_numpy, case.values()))] for case in cases]
    named = {value.name for value in proto.graph.input}
    feeds = [{name: array for name, array in case.items() if name in named} for case in cases]
    for precision, path in paths.items():
        smaller = proto
        if precision == "float16":
            smaller = to_float16(proto)
        elif precision == "int8":
            smaller = to_int8(proto, feeds, keep_in_int8)
        write_graph(smaller, path, replace(info, precision=precision), overwrite=overwrite)
        row = measure(path, precision, feeds, expected)
        report.rows.append(row)
        if precision == "float32" and not row.difference <= PARITY:
            raise ExportError(
                f"{path.name} differs from torch by {row.difference:.2g}, expected at most {PARITY:g}",
                fix="Use another version of torch or onnxruntime; this file is not to be trusted.",
            )


def measure(path: Path, precision: str, feeds: Sequence[Case], expected: Sequence[Sequence[Any]]) -> PrecisionRow:
    """Run a file on every feed, compare the outputs with torch's, and time it in every installed runtime.

    Raises:
        ExportError: an output is not finite, for example because a half-precision graph overflows.
    """
    graph = open_graph(path)
    differences, errors = [], []
    for feed, outputs in zip(feeds, expected, strict=True):
        got = graph(feed)
        for name, wanted in zip(graph.outputs, outputs, strict=True):
            spread = max(1.0, float(np.abs(wanted).max()))
            if not np.isfinite(got[name]).all():
                raise ExportError(
                    f"{path.name}: the output {name} has NaN or infinite numbers",
                    fix="Export in float32, or train with weights that stay smaller; this file is not to be trusted.",
                )
            differences.append(float(np.abs(got[name] - wanted).max()) / spread)
            if name == "image":
                errors.append(float(np.square(got[name] - wanted, dtype=np.float64).mean()))
    del graph
    psnr = float(np.mean([psnr_of(error) for error in errors])) if errors else None
    times: dict[str, float | None] = {runtime: _time(path, runtime, feeds[0]) for runtime in available_runtimes()}
    return PrecisionRow(path.name, precision, path.stat().st_size / 1e6, max(differences), psnr, times)


def _time(path: Path, runtime: Any, feed: Case) -> float | None:
    """Median time of a run on one thread, milliseconds; None if the runtime cannot load the file."""
    try:
        graph: Graph = open_graph(path, runtime)
    except WeightsError:
        return None
    times = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        graph(feed)
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times[3:]))
