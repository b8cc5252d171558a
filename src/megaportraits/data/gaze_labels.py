"""Label files with a teacher's gaze and blink (`docs/training.md`), to distil other gaze networks (B.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.errors import DataError
from megaportraits.reading import FAULTS, is_file, parse_json, parse_table, read_text

_SEE = "See docs/training.md."
COLUMNS = ("key", "frame", "yaw", "pitch", "blink")


@dataclass(frozen=True)
class EyeLabel:
    """A teacher's labels of one frame.

    Attributes:
        gaze: (2,), yaw and pitch relative to the head, in degrees; NaN where unknown.
        blink: 0 (open) to 1 (closed), the mean of both eyes; NaN where unknown.
    """

    gaze: npt.NDArray[np.float32]
    blink: float


def read_gaze_labels(path: Path) -> dict[tuple[str, int], EyeLabel]:
    """Read a label file; returns labels by (clip key, frame number).

    A `.jsonl` file has one object per line: `{"key": "c01", "frame": 3, "gaze": [yaw, pitch], "blink": 0.1}`. A `.csv`
    file has the columns key, frame, yaw, pitch, blink. Gaze and blink may each be null (empty in CSV).

    Raises:
        DataError: the file does not exist or has another suffix, or a line is not a label; the message names the line.
    """
    if not is_file(path, DataError) or path.suffix not in (".csv", ".jsonl"):
        raise DataError(
            f"Label file {path} does not exist, or is neither .csv nor .jsonl.", fix="See docs/training.md."
        )
    labels: dict[tuple[str, int], EyeLabel] = {}
    for number, row in _rows(path):
        try:
            gaze = [_number(row.get("yaw")), _number(row.get("pitch"))]
            if row.get("gaze") is not None:
                gaze = [float(v) for v in row["gaze"]]
            if len(gaze) != 2:
                raise ValueError(f"gaze has {len(gaze)} numbers, expected yaw and pitch")
            key = str(row["key"]), int(row["frame"])
            labels[key] = EyeLabel(np.array(gaze, np.float32), _number(row.get("blink")))
        except FAULTS as error:
            raise DataError(f"{path}, line {number} is not a label: {error!r:.200}.", fix=_SEE) from error
    return labels


def _number(value: Any) -> float:
    return float("nan") if value is None or value == "" else float(value)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    text = read_text(path, DataError, fix=_SEE)
    if path.suffix == ".csv":
        header, *rows = parse_table(text, str(path), DataError, fix=_SEE) or [[]]
        missing = set(COLUMNS[:2]) - set(header)
        if missing:
            raise DataError(f"{path} lacks the columns {sorted(missing)}.", fix=f"Columns: {', '.join(COLUMNS)}.")
        yield from ((number, dict(zip(header, row, strict=False))) for number, row in enumerate(rows, 2) if row)
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield number, _object(path, number, line)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    value = parse_json(line, f"{path}, line {number}", DataError, fix=_SEE)
    if not isinstance(value, dict):
        raise DataError(f"{path}, line {number} is not a JSON object.", fix=_SEE)
    return value
