"""The output folder of `synth`: lock, finished shards, and free disk space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from megaportraits.data.clips import CLIPS_PER_SHARD, shard_name
from megaportraits.errors import DataError
from megaportraits.media import folders
from megaportraits.reading import read_record
from megaportraits.synth.plan import SPLITS, SynthSettings, group_numbers

_BYTES_PER_PIXEL, _BYTES_PER_MAP = 0.5, 17_000  # of a frame; measured


@contextmanager
def claimed(settings: SynthSettings, out: Path) -> Iterator[None]:
    """Lock the folder and check its settings; remove unfinished files before and after.

    Raises:
        DataError: different settings, a folder with other content, another process is writing to it, or it cannot be
            written.
    """
    with folders.job_folder(out / "synth.json", settings.identity(), "synth", (*SPLITS, "counts")):
        for name in (*SPLITS, "counts"):
            (out / name).mkdir(exist_ok=True)
        yield


def note_of(out: Path, split: str, shard: int) -> Path:
    """Path of a shard's counts."""
    return out / "counts" / f"{split}-{shard:06d}.json"


def is_complete(settings: SynthSettings, out: Path, split: str, shard: int) -> bool:
    """Whether a shard exists with all its clips; the last one of a smaller run can be shorter."""
    note = note_of(out, split, shard)
    if not (out / split / shard_name(shard)).is_file() or not note.is_file():
        return False
    wanted = len(group_numbers(settings, split, shard)) * settings.group
    return _counts(note).get("clips", 0) >= wanted


def _counts(note: Path) -> dict[str, int]:
    """The counts of a shard; empty if the file is damaged, and the shard has to be made again."""
    try:
        counts = read_record(note, DataError)
    except DataError:
        return {}
    return counts if all(type(count) is int for count in counts.values()) else {}


def missing_shards(settings: SynthSettings, out: Path) -> list[tuple[str, int]]:
    """Missing shards: split and number."""
    every = [(split, shard) for split in SPLITS for shard in range(settings.shard_count(split))]
    return [job for job in every if not is_complete(settings, out, *job)]


def check_space(settings: SynthSettings, out: Path) -> None:
    """Raise DataError when the missing shards will not fit on the disk."""
    per_frame = settings.size**2 * _BYTES_PER_PIXEL + _BYTES_PER_MAP * settings.coords
    needed = len(missing_shards(settings, out)) * CLIPS_PER_SHARD * settings.frames * per_frame
    folders.check_space(out, needed, "Free some space, make fewer --clips or frames, or choose another --out.")


def sum_counts(settings: SynthSettings, out: Path) -> Counter[str]:
    """The counts of all finished shards."""
    total: Counter[str] = Counter()
    for split in SPLITS:
        for shard in range(settings.shard_count(split)):
            if is_complete(settings, out, split, shard):
                counts = _counts(note_of(out, split, shard))
                total.update(counts)
                total[f"clips {split}"] += counts.get("clips", 0)
    return total
