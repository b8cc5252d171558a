"""Benchmark of opening a corpus: with its index, and by reading every record (the only way before the index existed).

    python benchmarks/corpus.py --clips 100000

Makes one shard of 64 clips with labels as `prepare` stores them (48 frames, 478 landmarks each) and images of one
pixel, links it as often as needed for the requested number of clips, and writes the index that reading all of them
would give. Times are CPU times: the time of a slow disk to list 1,600 files, or to read the index, is not included.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from megaportraits.data.clip_schema import LANDMARKS, ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clip_table import join, scan
from megaportraits.data.clips import CLIPS_PER_SHARD, ClipIndex, ShardWriter, shard_name
from megaportraits.data.frames import FrameDataset
from megaportraits.data.index import INDEX
from megaportraits.faces.landmarks import EXPRESSION_NAMES


def make(folder: Path, clips: int, frames: int) -> None:
    """Make a folder with this number of clips, rounded up to whole shards."""
    rng = np.random.default_rng(0)
    pixel = np.zeros((1, 1, 3), np.uint8)
    with ShardWriter(folder, 0) as shard:
        for number in range(CLIPS_PER_SHARD):
            labels = tuple(_labels(rng) for _ in range(frames))
            key = f"video{number // 4:04d}-{number % 4:03d}"
            record = ClipRecord(key, "real", f"id{number // 8:05d}", None, 1, 5.0, EXPRESSION_NAMES, labels)
            shard.write(record, [ClipFrame(pixel, pixel[..., 0], label) for label in labels])
    for number in range(1, -(-clips // CLIPS_PER_SHARD)):
        os.link(folder / shard_name(0), folder / shard_name(number))


def _labels(rng: np.random.Generator) -> FrameLabels:
    return FrameLabels(
        np.linalg.qr(rng.normal(size=(3, 3)))[0],
        rng.normal(size=2) * 0.05,
        1.0,
        expression=rng.random(len(EXPRESSION_NAMES)).astype(np.float32),
        blink=rng.random(2).astype(np.float32),
        landmarks=rng.normal(size=(LANDMARKS, 2)).astype(np.float32),
    )


def index(folder: Path) -> float:
    """Write the folder's index. Returns the CPU seconds of reading one shard."""
    seconds, one = timed(lambda: scan(folder / shard_name(0)))
    # The rows of one shard under every name are what reading all the links would give.
    rows = [replace_name(one, shard.name) for shard in sorted(folder.glob("clips-*.tar"))]
    (folder / INDEX).write_bytes(join(rows).to_bytes(time.time_ns() + 10**10))
    return seconds


def replace_name(table, name: str):  # type: ignore[no-untyped-def]
    """A table of one shard under another file name."""
    return type(table)(table.numbers, {**table.texts, "shard": [name]})


def timed(work: Callable[[], object]):  # type: ignore[no-untyped-def]
    """CPU seconds of a call, and its result."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def measure(clips: int, frames: int, root: Path) -> dict[str, float]:
    """The measurements, in CPU seconds unless their names give another unit."""
    folder = Path(tempfile.mkdtemp(prefix="corpus-", dir=root))
    try:
        make(folder, clips, frames)
        shard = index(folder)
        opened, corpus = timed(lambda: ClipIndex(folder))
        summaries, _ = timed(lambda: (corpus.groups, corpus.expression_names(), corpus.siblings(0)))
        frame_set, _ = timed(lambda: FrameDataset(folder, length=0, size=16, landmarks=True))
        return {
            "clips": len(corpus),
            "index_megabytes": (folder / INDEX).stat().st_size / 1e6,
            "open": opened,
            "groups_and_videos": summaries,
            "open_frames": frame_set,
            "read_one_shard": shard,
            "read_all_shards": shard * len(corpus) / CLIPS_PER_SHARD,
            "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        }
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=48, help="frames of a clip")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    chosen = parser.parse_args()
    for name, value in measure(chosen.clips, chosen.frames, chosen.folder).items():
        print(f"{name:20} {value:12,.2f}")


if __name__ == "__main__":
    main()
