"""Several folders of shards in one config line: `real/train * 0.3 + lifted/train * 0.5 + s3://bucket/cg * 0.2`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from megaportraits.errors import DataError

_SHARE = re.compile(r"(?P<folder>.*?)(\s*\*\s*(?P<weight>\d+\.?\d*|\.\d+))?")


@dataclass(frozen=True)
class MixturePart:
    """A folder or its address, and the fraction of draws from it. The fractions of a mixture sum to 1."""

    folder: Path | str
    part: float


def parse_mixture(line: str | Path) -> tuple[MixturePart, ...]:
    """Parse a mixture. Weights need not sum to 1; a folder without a weight has weight 1.

    Args:
        line: a folder, or folders joined by ` + ` (with spaces), each with or without ` * WEIGHT`.

    Raises:
        DataError: a name is empty, or no weight is positive.
    """
    if isinstance(line, Path) or " + " not in line:
        return (MixturePart(_place(line), 1.0),)
    found = []
    for term in line.split(" + "):
        match = _SHARE.fullmatch(term.strip())
        if match is None or not match["folder"]:
            raise DataError(f"{term!r} in {line!r} names no folder.", fix="Write FOLDER * WEIGHT + FOLDER * WEIGHT.")
        found.append((_place(match["folder"]), float(match["weight"] or 1)))
    total = sum(weight for _, weight in found)
    if total <= 0:
        raise DataError(f"All weights in {line!r} are 0.", fix="Give at least one folder a positive weight.")
    return tuple(MixturePart(folder, weight / total) for folder, weight in found)


def is_address(place: object) -> bool:
    """Whether `place` is an address (`https://`, `s3://`, ...) to stream from (`data.stream`), not a local folder."""
    return "://" in str(place)


def _place(name: str | Path) -> Path | str:
    return str(name) if is_address(name) else Path(name)
