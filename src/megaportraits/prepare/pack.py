"""Pack accepted clips into shards; the shard of a clip depends on the verdicts only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from megaportraits.data.clips import CLIPS_PER_SHARD, ShardWriter, shard_name
from megaportraits.data.shard_index import CLIP_SHARDS, members, read_member
from megaportraits.errors import DataError
from megaportraits.media.folders import write_json
from megaportraits.prepare.filters import KEPT, ClipRow
from megaportraits.prepare.store import SHARDS, Store
from megaportraits.reading import FAULTS, read_json

_UNREADABLE: tuple[type[Exception], ...] = (DataError, *FAULTS)


def pack(rows: Sequence[ClipRow], store: Store, out: Path, on_shard: Callable[[int, int], None]) -> dict[str, int]:
    """Write missing and outdated shards; remove superfluous ones.

    Clips are shuffled by a hash of their keys, so that a shard mixes people.

    Args:
        rows: filtered clips.
        store: their folder.
        out: output folder of train/, val/ and stills/.
        on_shard: called with shards done and shards in all.

    Returns:
        Clips by folder.
    """
    plan = {folder: _chosen(rows, folder) for folder in SHARDS}
    jobs = [
        (folder, number, clips[start : start + CLIPS_PER_SHARD])
        for folder, clips in plan.items()
        for number, start in enumerate(range(0, len(clips), CLIPS_PER_SHARD))
    ]
    for folder, clips in plan.items():
        wanted = {shard_name(n) for n in range(-(-len(clips) // CLIPS_PER_SHARD))}
        for path in (out / folder).glob(CLIP_SHARDS):
            if path.name not in wanted:
                path.unlink()
                _plan_of(path).unlink(missing_ok=True)
    for done, (folder, number, clips) in enumerate(jobs):
        on_shard(done, len(jobs))
        _write_shard(out / folder, number, clips, store)
    on_shard(len(jobs), len(jobs))
    return {folder: len(clips) for folder, clips in plan.items() if clips}


def _chosen(rows: Sequence[ClipRow], folder: str) -> list[ClipRow]:
    kind = "still" if folder.startswith("stills") else "video"
    split = folder.rpartition("/")[2]
    mine = [row for row in rows if row["verdict"] == KEPT and row["kind"] == kind and row["split"] == split]
    return sorted(mine, key=lambda row: hashlib.sha256(row["key"].encode()).digest())


def _plan_of(shard: Path) -> Path:
    """The hidden file that lists the clips of a shard."""
    return shard.with_name(f".{shard.stem}.json")


def _write_shard(folder: Path, number: int, clips: list[ClipRow], store: Store) -> None:
    path = folder / shard_name(number)
    plan = [[row["key"], row["person"]] for row in clips]
    note = _plan_of(path)
    if path.is_file() and note.is_file() and _noted(note) == plan:
        return
    note.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    with ShardWriter(folder, number) as shard:
        for row in clips:
            shard.copy(row["key"], _members(store.clips(row["item"]), row))
    write_json(note, plan)


def _noted(note: Path) -> Any:
    """The clips of a shard; None if the file is damaged, and the shard has to be written again."""
    try:
        return read_json(note, DataError)
    except DataError:
        return None


def _members(tar: Path, row: ClipRow) -> Iterator[tuple[str, bytes]]:
    """A clip's members from the store, with its final key and person."""
    prefix = f"{row['key']}."
    try:
        for full, offset, size in members(tar):
            if not full.startswith(prefix):
                continue
            name, content = full.removeprefix(prefix), read_member(tar, offset, size)
            if name == "json":
                record = json.loads(content) | {"key": row["key"], "identity": row["person"]}
                content = json.dumps(record).encode()
            yield name, content
    except _UNREADABLE as error:
        raise DataError(
            f"The clips {tar} cannot be read: {error}", fix=f"Remove {tar.with_suffix('.json')} and run again."
        ) from error
