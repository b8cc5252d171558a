"""Gaze and blink labels of a teacher, as a file (`docs/training.md`): how other systems are distilled (B.5)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.errors import DataError

COLUMNS = ("key", "frame", "yaw", "pitch", "blink")


@dataclass(frozen=True)
class EyeLabel:
    """What a teacher said about one frame.

    Attributes:
        gaze: (2,), yaw and pitch relative to the head, degrees; NaN where it said nothing.
        blink: 0 open to 1 closed, the mean of both eyes; NaN where it said nothing.
    """

    gaze: npt.NDArray[np.float32]
    blink: float


def read_labels(path: Path) -> dict[tuple[str, int], EyeLabel]:
    """Labels by (clip key, frame number).

    `.jsonl` holds one object a line: `{"key": "c01", "frame": 3, "gaze": [yaw, pitch], "blink": 0.1}`; `.csv` has the
    columns key, frame, yaw, pitch, blink. Either label may be null (empty in CSV).

    Raises:
        DataError: no such file, another ending, or a line that is no label; the text names the line.
    """
    if not path.is_file() or path.suffix not in (".csv", ".jsonl"):
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
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path}, line {number} is not a label: {error!r}.", fix="See docs/training.md.") from error
    return labels


def _number(value: Any) -> float:
    return float("nan") if value is None or value == "" else float(value)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            reader = csv.DictReader(file)
            missing = set(COLUMNS[:2]) - set(reader.fieldnames or ())
            if missing:
                raise DataError(f"{path} lacks the columns {sorted(missing)}.", fix=f"Columns: {', '.join(COLUMNS)}.")
            yield from enumerate(reader, 2)
        else:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _object(path, number, line)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}, line {number} is not JSON: {error}.", fix="See docs/training.md.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}, line {number} is not a JSON object.", fix="See docs/training.md.")
    return value
