"""What an export wrote and what it costs: parity with torch, quality, file size, speed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from megaportraits.errors import ExportError, WeightsError
from megaportraits.export.precision import to_float16, to_int8
from megaportraits.export.write import write_graph
from megaportraits.media import check_output
from megaportraits.media.files import staged_output
from megaportraits.reading import FAULTS
from megaportraits.runtimes import Graph, GraphInfo, available_runtimes, open_graph

Precision = Literal["float32", "float16", "int8"]
Case = Mapping[str, npt.NDArray[Any]]
"""A graph's inputs by name."""
PARITY = 1e-3
"""The largest difference between a float32 graph and torch, in parts of the output's range, that is let through."""
_TIMED = 15


@dataclass(frozen=True)
class PrecisionRow:
    """One file.

    Attributes:
        file: its name.
        precision: see `Precision`.
        megabytes: its size.
        difference: largest difference from torch in float32, in parts of the output's range (pictures: of 1).
        psnr: of the picture against torch in float32, mean over the frames, dB; infinite when all are equal, None
            for graphs without a picture.
        milliseconds: one run by runtime, median; None where a runtime cannot run it.
    """

    file: str
    precision: str
    megabytes: float
    difference: float
    psnr: float | None
    milliseconds: dict[str, float | None]


@dataclass
class ExportReport:
    """All files of one export.

    Attributes:
        folder: where they are.
        rows: one each.
    """

    folder: Path
    rows: list[PrecisionRow] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The report as a file."""
        return self.folder / "report.json"

    def save(self) -> None:
        """Write `report.json`; what an earlier one said of other files that are still there is kept."""
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            row["psnr"] = None if row["psnr"] is None or np.isinf(row["psnr"]) else row["psnr"]
        written = {row["file"] for row in rows}
        earlier = _rows_of(self.path) or []
        rows += [row for row in earlier if row["file"] not in written and (self.folder / row["file"]).is_file()]
        with staged_output(self.path, overwrite=True) as part:
            part.write_text(json.dumps({"torch": torch.__version__, "files": rows}, indent=1) + "\n", encoding="utf-8")


def _rows_of(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a report that `ExportReport.save` wrote; None where the file is another one."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["files"]
        return rows if all(isinstance(row["file"], str) for row in rows) else None
    except FAULTS:
        return None


def plan_files(folder: Path, stem: str, precisions: Sequence[Precision], *, overwrite: bool) -> dict[Precision, Path]:
    """Where `write_precisions` will write, float32 first; asked before the work begins.

    Raises:
        MediaError: a file exists already, or a `report.json` that no export wrote.
    """
    report = folder / "report.json"
    check_output(report, overwrite=overwrite or _rows_of(report) is not None)
    wanted: list[Precision] = ["float32", *(p for p in precisions if p != "float32")]
    names = {p: f"{stem}.onnx" if p == "float32" else f"{stem}-{p}.onnx" for p in wanted}
    return {p: check_output(folder / name, overwrite=overwrite) for p, name in names.items()}


def write_precisions(
    report: ExportReport,
    stem: str,
    proto: Any,
    info: GraphInfo,
    module: nn.Module,
    cases: Sequence[Case],
    precisions: Sequence[Precision],
    *,
    keep_in_int8: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write `STEM.onnx` and one `STEM-PRECISION.onnx` for every other precision; measure each against torch.

    Args:
        report: gets a row per file.
        stem: of the file names.
        proto: the float32 graph.
        info: of the float32 graph.
        module: what torch computes; takes the cases' arrays in their order.
        cases: real inputs; int8 is calibrated on them.
        precisions: float32 is always written.
        keep_in_int8: see `precision.to_int8`.
        overwrite: whether existing files may be replaced.

    Raises:
        ExportError: the float32 graph computes something else than torch, or any graph something that is not finite.
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
    """Run a file on every feed and compare; time it in every installed runtime.

    Raises:
        ExportError: an output is not finite, as of a half-precision graph that overflows.
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
    psnr = float(np.mean([np.inf if e == 0 else -10 * np.log10(e) for e in errors])) if errors else None
    times: dict[str, float | None] = {runtime: _time(path, runtime, feeds[0]) for runtime in available_runtimes()}
    return PrecisionRow(path.name, precision, path.stat().st_size / 1e6, max(differences), psnr, times)


def _time(path: Path, runtime: Any, feed: Case) -> float | None:
    """Median milliseconds of a run, one thread; None where the runtime refuses the file."""
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
