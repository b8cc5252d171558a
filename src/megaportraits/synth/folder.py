"""The output folder of the job: whose it is, what is finished in it, and whether it fits on the disk."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from megaportraits.data.clips import CLIPS_PER_SHARD, shard_name
from megaportraits.errors import DataError
from megaportraits.synth.plan import SPLITS, SynthSettings, group_numbers

_BYTES_PER_PIXEL, _BYTES_PER_MAP = 0.5, 17_000  # of a frame; measured
_SPARE_BYTES = 500_000_000


@contextmanager
def claimed(settings: SynthSettings, out: Path) -> Iterator[None]:
    """Make sure that the folder is ours and that nobody else fills it now."""
    out.mkdir(parents=True, exist_ok=True)
    note, wanted = out / "synth.json", settings.identity()
    if note.is_file():
        there = json.loads(note.read_text())
        if there != wanted:
            raise DataError(
                f"{out} was made with other settings: {_difference(there, wanted)}.",
                fix="Use the same settings to go on, or another --out.",
            )
    elif any(out.iterdir()):
        raise DataError(f"{out} is not empty and not a synth folder.", fix="Choose an empty --out.")
    else:
        write_json(note, wanted)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"Another process fills {out} now.", fix="Wait for it, or stop it.") from error
        for split in SPLITS:
            (out / split).mkdir(exist_ok=True)
            for stale in (out / split).glob(".clips-*.partial"):
                stale.unlink()
        (out / "counts").mkdir(exist_ok=True)
        yield


def _difference(there: dict[str, Any], wanted: dict[str, Any]) -> str:
    names = [name for name in sorted({*there, *wanted}) if there.get(name) != wanted.get(name)]
    return ", ".join(f"{name} {there.get(name)} there, {wanted.get(name)} now" for name in names)


def note_of(out: Path, split: str, shard: int) -> Path:
    """Where a shard's counts are kept."""
    return out / "counts" / f"{split}-{shard:06d}.json"


def is_complete(settings: SynthSettings, out: Path, split: str, shard: int) -> bool:
    """Whether a shard is there with all its clips; the last one of a smaller run may lack some."""
    note = note_of(out, split, shard)
    if not (out / split / shard_name(shard)).is_file() or not note.is_file():
        return False
    wanted = len(group_numbers(settings, split, shard)) * settings.group
    return bool(json.loads(note.read_text()).get("clips", 0) >= wanted)


def missing_shards(settings: SynthSettings, out: Path) -> list[tuple[str, int]]:
    """What is left to make: split and number."""
    every = [(split, shard) for split in SPLITS for shard in range(settings.shard_count(split))]
    return [job for job in every if not is_complete(settings, out, *job)]


def check_space(settings: SynthSettings, out: Path) -> None:
    """Raise DataError when the missing shards will not fit on the disk."""
    per_frame = settings.size**2 * _BYTES_PER_PIXEL + _BYTES_PER_MAP * settings.coords
    needed = int(len(missing_shards(settings, out)) * CLIPS_PER_SHARD * settings.frames * per_frame) + _SPARE_BYTES
    free = shutil.disk_usage(out).free
    if free < needed:
        raise DataError(
            f"{out} needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free.",
            fix="Free some space, make fewer --clips or frames, or choose another --out.",
        )


def sum_counts(settings: SynthSettings, out: Path) -> Counter[str]:
    """The counts of all finished shards."""
    total: Counter[str] = Counter()
    for split in SPLITS:
        for shard in range(settings.shard_count(split)):
            if is_complete(settings, out, split, shard):
                counts = json.loads(note_of(out, split, shard).read_text())
                total.update(counts)
                total[f"clips {split}"] += counts.get("clips", 0)
    return total


def write_json(path: Path, content: Any) -> None:
    """Write a small JSON file that is either whole or not there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)
