"""The index of a folder of shards: a file with the table of their clips, so that opening the folder reads no records.

    clips-index.safetensors    beside the shards, or in the cache directory if their folder is not writable

Opening a folder makes the index if there is none, and updates it if shards were added, removed or changed. When
several processes open a folder at once, one of them reads the shards and the others wait for its file.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from megaportraits import weights
from megaportraits.data.clip_table import ClipTable, join, scan
from megaportraits.data.shard_index import CLIP_SHARDS
from megaportraits.engines import run_local
from megaportraits.errors import DataError
from megaportraits.media.folders import folder_lock, write_whole
from megaportraits.reading import list_files

INDEX = "clips-index.safetensors"
_WAIT_SECONDS = 0.5
_LINES = 20
"""Largest number of printed progress lines."""

OnProgress = Callable[[int, int], None]
"""Called with the number of shards read so far and the number of shards to read."""


def open_table(folder: Path) -> ClipTable:
    """The table of all shards in a folder, in the order of their names. An up-to-date index is used, else it is made.

    Raises:
        DataError: there are no shards, or one cannot be accessed.
    """
    shards = list_files(folder, CLIP_SHARDS, DataError)
    if not shards:
        raise DataError(
            f"No shards {CLIP_SHARDS} in {folder}.",
            fix="Make them with `megaportraits synth` or `megaportraits prepare`.",
        )
    for place in (folder, _cached(folder)):
        known = _load(place)
        if known is not None and known.is_current(shards):
            return known.table
    return _make(folder, lambda done, total: _tell(folder, done, total), 1)


def refresh(folder: Path, *, workers: int = 1, on_progress: OnProgress = lambda done, total: None) -> int:
    """Update the index of a folder after shards were written; returns the number of clips, 0 without shards.

    Args:
        folder: folder with the shards.
        workers: number of processes that read shards, at most the number of this machine's processors.
        on_progress: see `OnProgress`; not called if nothing has to be read.

    Raises:
        DataError: a shard cannot be accessed.
    """
    workers = min(workers, os.cpu_count() or 1)
    return len(_make(folder, on_progress, workers)) if list_files(folder, CLIP_SHARDS, DataError) else 0


def scan_folder(folder: Path) -> ClipTable:
    """The table of shards that are deleted again soon: made from their tar headers alone, and not kept in a file.

    Raises:
        DataError: a shard cannot be accessed.
    """
    return join([scan(shard, records=False) for shard in list_files(folder, CLIP_SHARDS, DataError)])


def _make(folder: Path, progress: OnProgress, workers: int) -> ClipTable:
    """Read new and changed shards while holding the lock of the index's folder.

    If neither the folder nor the cache directory is writable, the table is made in memory only.
    """
    place = next((place for place in (folder, _cached(folder)) if _is_writable(place)), None)
    waited = False
    while place is not None:
        with folder_lock(place) as free:
            if free:
                return _update(folder, place, progress, workers)
        if not waited:
            _say(f"Waiting for another process that makes the index of {folder}.")
        waited = True
        time.sleep(_WAIT_SECONDS)
    return _update(folder, None, progress, workers)


def _update(folder: Path, place: Path | None, progress: OnProgress, workers: int) -> ClipTable:
    shards, began = list_files(folder, CLIP_SHARDS, DataError), time.time_ns()
    known = _load(place) if place is not None else None
    if known is not None and known.is_current(shards):
        return known.table  # another process has updated it
    parts = known.parts(shards) if known is not None else {}
    todo = [shard for shard in shards if shard.name not in parts]
    if todo:
        progress(0, len(todo))
    with closing(run_local(scan, todo, min(workers, len(todo)), again=False)) as results:
        for done, part in enumerate(results, 1):
            parts[part.shards[0]] = part
            progress(done, len(todo))
    table = join([parts[shard.name] for shard in shards])
    if place is not None:
        try:
            write_whole(place / INDEX, table.to_bytes(began))
        except OSError as error:
            _say(f"The index of {folder} cannot be kept in {place}: {error.strerror or error}.")
    return table


class _Known:
    """A table read from an index file, and when it was made."""

    def __init__(self, table: ClipTable, made: int) -> None:
        self.table, self.made = table, made

    def is_current(self, shards: Sequence[Path]) -> bool:
        """Whether the table has exactly these shards, and none of them has changed since."""
        names = [shard.name for shard in shards]
        return names == list(self.table.shards) and all(
            self.table.is_shard(number, shard, made=self.made) for number, shard in enumerate(shards)
        )

    def parts(self, shards: Sequence[Path]) -> dict[str, ClipTable]:
        """The tables of the shards that have not changed since, by file name."""
        files = {shard.name: shard for shard in shards}
        return {
            name: self.table.part(number)
            for number, name in enumerate(self.table.shards)
            if name in files and self.table.is_shard(number, files[name], made=self.made)
        }


def _load(place: Path) -> _Known | None:
    """The table kept in a folder; None if there is none or this version cannot read it."""
    try:
        return _Known(*ClipTable.from_bytes((place / INDEX).read_bytes()))
    except (OSError, ValueError):
        return None


def _cached(folder: Path) -> Path:
    """The directory for the index of a folder that is not writable."""
    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]
    return weights.cache_dir().parent / "indices" / name


def _is_writable(place: Path) -> bool:
    """Whether files can be created in a folder; the folder is created if it is missing."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place, os.W_OK | os.X_OK)


def _tell(folder: Path, done: int, total: int) -> None:
    if total < _LINES:
        return  # seconds
    step = total // _LINES
    if done == 0:
        _say(f"Reading the records of {total:,} new or changed shards of {folder}, to store them in {INDEX}.")
        if total >= 4 * _LINES:
            _say(f"`megaportraits index {folder} --workers 8` does it with eight processes.")
    elif done % step == 0:
        _say(f"  {done:,} of {total:,} shards")


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, soft_wrap=True, markup=False)
