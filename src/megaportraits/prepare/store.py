"""The output folder: whose it is, what has been measured in it, and whether the rest will fit on the disk.

    prepare.json            the extraction settings; other settings need another folder
    store/ab/KEY.json       what is known about one video or still: its clips and their numbers, or why it failed
    store/ab/KEY.tar        the clips themselves, all that were found, before any filter
    store/attempts/         who is at work on what, so that a video that kills its workers is given up
    train/, val/, stills/   shards of what the filters kept
    index.parquet|csv       every clip with every number and the verdict
    report.html             a look at the result

A result appears under its name when it is complete, tar first, and depends on the video and the settings alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megaportraits.engines import Attempts
from megaportraits.errors import DataError
from megaportraits.media.folders import folder_lock, write_json
from megaportraits.prepare.settings import ExtractSettings

SPARE_BYTES = 500_000_000
NOTE = "prepare.json"
SHARDS = ("train", "val", "stills/train", "stills/val")
"""The folders of shards."""


class Store:
    """Results by key; made anew in every worker, holds nothing but the path."""

    def __init__(self, out: Path) -> None:
        self.root = out / "store"
        self.attempts = Attempts(self.root / "attempts")

    def note(self, key: str) -> Path:
        """Where the result of an item is written, last of its files."""
        return self.root / _bucket(key) / f"{key}.json"

    def clips(self, key: str) -> Path:
        """Where the clips of an item are."""
        return self.root / _bucket(key) / f"{key}.tar"

    def has(self, key: str) -> bool:
        """Whether the item is done, well or badly."""
        return self.note(key).is_file()

    def read(self, key: str) -> dict[str, Any]:
        """The result of an item that is done."""
        try:
            return dict(json.loads(self.note(key).read_text()))
        except (OSError, ValueError) as error:
            raise DataError(
                f"The result {self.note(key)} cannot be read: {error}.", fix="Remove it and run the same line again."
            ) from error

    def keys(self) -> list[str]:
        """All items that are done, sorted."""
        return sorted(path.stem for path in self.root.glob("??/*.json"))

    def sweep(self) -> None:
        """Remove what workers left that were killed; only while none is at work."""
        self.attempts.sweep()
        for stale in self.root.glob("??/.*.partial"):
            stale.unlink(missing_ok=True)


def _bucket(key: str) -> str:
    """A hundred thousand files do not belong into one folder."""
    return key[-2:]


@contextmanager
def claimed(out: Path, settings: ExtractSettings) -> Iterator[Store]:
    """Make sure that the folder is ours and that nobody else fills it now; leftovers of a killed run go.

    Raises:
        DataError: other settings, a foreign folder, or another process at work.
    """
    note, wanted = out / NOTE, settings.identity()
    if note.is_file():
        there = json.loads(note.read_text())
        names = [name for name in sorted({*there, *wanted}) if there.get(name) != wanted.get(name)]
        if names:
            what = ", ".join(f"{name} {there.get(name)} there, {wanted.get(name)} now" for name in names)
            raise DataError(
                f"{out} was made with other settings: {what}.", fix="Use the same ones to go on, or another --out."
            )
    elif out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise DataError(f"{out} is not empty and not a prepare folder.", fix="Choose an empty --out.")
    with folder_lock(out) as free:
        if not free:
            raise DataError(f"Another process fills {out} now.", fix="Wait for it, or stop it.")
        if not note.is_file():
            write_json(note, wanted)
        store = Store(out)
        store.root.mkdir(exist_ok=True)
        store.sweep()
        for folder in (out, *(out / name for name in SHARDS)):
            for stale in folder.glob(".*.partial"):
                stale.unlink(missing_ok=True)
        yield store


def stored_settings(out: Path) -> ExtractSettings:
    """The settings a folder was made with; DataError when it is no prepare folder."""
    note = out / NOTE
    if not note.is_file():
        raise DataError(f"{out} is no prepare folder yet.", fix="Name the videos or stills to prepare.")
    entries = dict(json.loads(note.read_text()))
    entries.pop("version", None)
    return ExtractSettings(**entries)


def check_space(out: Path, needed: float) -> None:
    """Raise DataError when `needed` bytes and a reserve are not free."""
    free = shutil.disk_usage(out).free
    if free < needed + SPARE_BYTES:
        raise DataError(
            f"{out} needs about {(needed + SPARE_BYTES) / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free.",
            fix="Free some space or choose another --out; what is done is kept and the same line goes on.",
        )
