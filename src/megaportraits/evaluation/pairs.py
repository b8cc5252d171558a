"""Pairs of source and driver, and the manifest that lists them, so that every method is evaluated on the same pairs.

A manifest is a CSV file that people can read and edit, with one pair per line:

    pair,protocol,source,source_frame,driver,first,step,frames
    d0,self,clips/d0.mp4,8,clips/d0.mp4,0,2,60
    mona_lisa-d12,cross,stills/mona_lisa.jpg,,clips/d12.mp4,0,2,60

Paths are relative to the manifest's folder. `source_frame` is empty for stills; the drivers are the frames `first`,
`first + step`, ... of the driver, at most `frames` of them, without the source frame itself.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from megaportraits.choices import PROTOCOLS, ProtocolName
from megaportraits.errors import DataError
from megaportraits.media.files import check_input
from megaportraits.media.staging import staged_output
from megaportraits.reading import is_file, parse_table, read_text, shown

DEFAULT_PROTOCOLS: tuple[ProtocolName, ...] = ("self", "cross")
COLUMNS = ("pair", "protocol", "source", "source_frame", "driver", "first", "step", "frames")
STEP = 2
"""Every second frame of a clip is used: neighbouring frames hardly differ."""
_KEY = re.compile(r"[\w.+-]{1,200}")
_WHOLE = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Pair:
    """One source and one driver.

    Attributes:
        key: name of the pair and of its files; unique among the pairs of a protocol.
        protocol: how results are measured, see `docs/evaluation.md`.
        source: an image or a video.
        source_frame: number of the source frame in a video; None for an image.
        driver: a video or an image.
        first: number of the first driver frame.
        step: every `step`-th frame of the driver is used.
        frames: largest number of driver frames.
    """

    key: str
    protocol: ProtocolName
    source: Path
    source_frame: int | None
    driver: Path
    first: int = 0
    step: int = STEP
    frames: int = 60

    @property
    def name(self) -> str:
        """Protocol and key, unique in a manifest."""
        return f"{self.protocol}/{self.key}"


def write_manifest(path: Path, pairs: Sequence[Pair], *, overwrite: bool = False) -> None:
    """Write pairs as a manifest; the same pairs give the same bytes.

    Raises:
        MediaError: the file exists and `overwrite` is false, or cannot be written.
        DataError: two pairs have the same name.
    """
    _check_unique(pairs, path)
    folder = path.resolve().parent
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for pair in pairs:
        source, driver = (
            Path(os.path.relpath(file.resolve(), folder)).as_posix() for file in (pair.source, pair.driver)
        )
        number = "" if pair.source_frame is None else pair.source_frame
        table.writerow([pair.key, pair.protocol, source, number, driver, pair.first, pair.step, pair.frames])
    with staged_output(path, overwrite=overwrite) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def read_manifest(path: Path) -> list[Pair]:
    """Read the pairs of a manifest, in its order.

    Raises:
        MediaError: the file does not exist.
        DataError: the file is not a valid manifest; the message lists the problems with their lines.
    """
    fix = "Write one with `megaportraits pairs`."
    rows = parse_table(read_text(check_input(path), DataError, fix=fix), str(path), DataError, fix=fix)
    if not rows or tuple(rows[0]) != COLUMNS:
        raise DataError(
            f"{path} is not a manifest of pairs: expected the first line {','.join(COLUMNS)!r}, got "
            f"{shown(','.join(rows[0]) if rows else '')}",
            fix=fix,
        )
    pairs: list[Pair] = []
    problems: list[str] = []
    for number, row in enumerate(rows[1:], 2):
        if row:
            found = _parse(row, path.parent)
            if isinstance(found, Pair):
                pairs.append(found)
            else:
                problems.append(f"  line {number}: {found}")
    if problems or not pairs:
        told = "\n".join(problems[:20]) or "  no pairs"
        raise DataError(f"{path}: {len(problems) or 1} problem(s):\n{told}", fix="See docs/evaluation.md.")
    _check_unique(pairs, path)
    return pairs


def crossed(sources: Sequence[Path], drivers: Sequence[Path], limit: int) -> list[tuple[Path, Path]]:
    """Combine every source with every driver that is another file, or make a balanced selection of these pairs.

    In round r, source i is paired with driver i + r (cyclic). So after any number of rounds all sources have been used
    equally often, and all drivers too if there are as many of them as sources. The result is sorted by source.

    Args:
        sources: source files, in order.
        drivers: driver files, in order.
        limit: the largest number of pairs.
    """
    chosen: list[tuple[int, int]] = []
    for turn in range(len(drivers)):
        for index, source in enumerate(sources):
            driver = (index + turn) % len(drivers)
            if len(chosen) < limit and drivers[driver].resolve() != source.resolve():
                chosen.append((index, driver))
    return [(sources[i], drivers[j]) for i, j in sorted(chosen)]


def key_of(source: Path, driver: Path) -> str:
    """Make a pair's key from its files' names; it contains only letters, digits, dot, plus, minus and underscore."""
    names = [source.stem] if source.resolve() == driver.resolve() else [source.stem, driver.stem]
    return "-".join(re.sub(r"[^\w.+-]+", "_", name) for name in names)


def _parse(row: list[str], folder: Path) -> Pair | str:
    """Parse a line; returns the pair, or a message that says what is wrong."""
    if len(row) != len(COLUMNS):
        return f"expected {len(COLUMNS)} values, got {len(row)}"
    key, protocol, source, source_frame, driver, *numbers = (value.strip() for value in row)
    if not _KEY.fullmatch(key):
        return f"pair: expected at most 200 letters, digits and . + - _, got {shown(key)}"
    if protocol not in PROTOCOLS:
        return f"protocol: expected one of {', '.join(PROTOCOLS)}, got {shown(protocol)}"
    if not all(_WHOLE.fullmatch(value) for value in (*numbers, source_frame or "0")):
        return "source_frame, first, step, frames: expected whole numbers of at most nine digits, not negative"
    first, step, frames = (int(value) for value in numbers)
    if step < 1 or frames < 1:
        return f"step and frames: expected at least 1, got {step} and {frames}"
    try:
        missing = [file for file in (source, driver) if not is_file(folder / file, DataError)]
    except DataError as error:
        return error.message
    if missing:
        return f"no such file: {', '.join(missing)}"
    at = int(source_frame) if source_frame else None
    return Pair(key, protocol, folder / source, at, folder / driver, first, step, frames)


def _check_unique(pairs: Sequence[Pair], path: Path) -> None:
    names = [pair.name for pair in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{path}: pairs of one protocol need different names; more than once: {', '.join(twice[:5])}",
            fix="Rename files or pairs.",
        )
