"""The output folder of `prepare`: lock and stored results.

    prepare.json            the extraction settings; other settings need another folder
    store/ab/KEY.json       the result of one video or still: its clips and their numbers, or the error
    store/ab/KEY.tar        all its clips, before any filter
    store/attempts/         items being processed, so that a video that crashes its workers is abandoned
    train/, val/, stills/   shards of clips that passed the filters, and their index (`data.index`)
    index.parquet|csv       every clip with its numbers and verdict
    report.html             overview of the result

Results are written atomically, the tar first, and depend on the video and the settings only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megaportraits.engines import Attempts
from megaportraits.errors import DataError
from megaportraits.faces.recognition import SIZE as EMBEDDING
from megaportraits.media.folders import job_folder
from megaportraits.prepare.measures import THUMBNAIL
from megaportraits.prepare.settings import ExtractSettings
from megaportraits.reading import FAULTS, is_file, read_record, shown

_NUMBERS = (
    *("crop_px", "inside", "presence", "sharpness", "iqa", "iris_ratio", "same_person", "start", "seconds"),
    *("expression_range", "jaw_open", "yaw", "pitch", "roll", "yaw_range", "pitch_range", "roll_range"),
    *("frames", "size", "people"),
)
"""Fields of `cutting.Clip.row`."""
_OTHER_OUT = "Restore the file from a copy, or choose another --out."
NOTE = "prepare.json"
SHARDS = ("train", "val", "stills/train", "stills/val")
"""The folders of shards."""


class Store:
    """Results by key; holds only the path and is created in every worker."""

    def __init__(self, out: Path) -> None:
        self.root = out / "store"
        self.attempts = Attempts(self.root / "attempts")

    def note(self, key: str) -> Path:
        """Path of an item's result, the last of its files to be written."""
        return self.root / _bucket(key) / f"{key}.json"

    def clips(self, key: str) -> Path:
        """Path of an item's clips."""
        return self.root / _bucket(key) / f"{key}.tar"

    def has(self, key: str) -> bool:
        """Whether the item is done, successfully or not."""
        return self.note(key).is_file()

    def read(self, key: str) -> dict[str, Any]:
        """The result of a finished item."""
        note, fix = self.note(key), "Remove it and repeat the same command."
        result = read_record(note, DataError, fix=fix)
        try:
            if result["error"] is not None and not isinstance(result["error"], str):
                raise TypeError(f"the error is {shown(result['error'])}")
            for clip in result["clips"]:
                _check_clip(clip)
        except FAULTS as error:
            raise DataError(f"{note} is not the result of a video or still: {error!r:.200}", fix=fix) from error
        return result

    def keys(self) -> list[str]:
        """All items that are done, sorted."""
        return sorted(path.stem for path in self.root.glob("??/*.json"))

    def sweep(self) -> None:
        """Remove files of killed workers; call only while no worker is running."""
        self.attempts.sweep()
        for stale in self.root.glob("??/.*.partial"):
            stale.unlink(missing_ok=True)


def _check_clip(clip: dict[str, Any]) -> None:
    """Raise one of `FAULTS` if the data of a clip are incomplete."""
    numbers = [clip[name] for name in _NUMBERS] + clip["embedding"]
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        raise ValueError("a number of a clip is missing or not finite")
    if len(clip["embedding"]) != EMBEDDING or len(bytes.fromhex(clip["thumbnails"])) != 3 * THUMBNAIL**2:
        raise ValueError("an embedding or a picture of a clip has another size")
    if not isinstance(clip["key"], str):
        raise TypeError(f"the key of a clip is {shown(clip['key'])}")


def _bucket(key: str) -> str:
    """Sub-folder of a key, to avoid folders with too many files."""
    return key[-2:]


@contextmanager
def claimed(out: Path, settings: ExtractSettings) -> Iterator[Store]:
    """Lock the folder, check its settings, and remove files of a killed run.

    Raises:
        DataError: different settings, a folder with other content, or another process is writing to it.
    """
    with job_folder(out / NOTE, settings.identity(), "prepare", SHARDS):
        store = Store(out)
        store.root.mkdir(exist_ok=True)
        store.sweep()
        yield store


def stored_settings(out: Path) -> ExtractSettings:
    """The settings of a folder; DataError if it is not a prepare folder."""
    note = out / NOTE
    if not is_file(note, DataError):
        raise DataError(f"{out} is not a prepare folder yet.", fix="Give the videos or stills to prepare.")
    entries = read_record(note, DataError, fix=_OTHER_OUT)
    entries.pop("version", None)
    try:
        return ExtractSettings(**entries)
    except FAULTS as error:
        raise DataError(f"{note} does not hold the settings of a prepare run: {error}", fix=_OTHER_OUT) from error
