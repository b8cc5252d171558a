"""Benchmark of `megaportraits prepare`: CPU seconds for each part, clips per core-hour, bytes per frame.

    python benchmarks/prepare.py VIDEO... [--size 256] [--fps 5]

It measures CPU time, not elapsed time, so other load on the machine does not change the results. It uses one thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from megaportraits.media import VideoReader
from megaportraits.prepare import cutting, measures, people
from megaportraits.prepare.extract import Extractor
from megaportraits.prepare.settings import ExtractSettings
from megaportraits.prepare.sources import find_items
from megaportraits.prepare.store import Store

SPENT: dict[str, float] = defaultdict(float)


def timed(holder: Any, name: str, label: str) -> None:
    """Replace a function by a version that adds its CPU time to `SPENT[label]`."""
    inner: Callable[..., Any] = getattr(holder, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return inner(*args, **kwargs)
        finally:
            SPENT[label] += time.process_time() - start

    setattr(holder, name, outer)


def decode(paths: list[str]) -> tuple[int, float, float]:
    """Frames, seconds of video and CPU seconds of decoding alone."""
    start, frames, length = time.process_time(), 0, 0.0
    for path in paths:
        reader = VideoReader(path)
        frames += sum(1 for _ in reader)
        length += reader.info.duration or 0
    return frames, length, time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--fps", type=float, default=5.0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    items = find_items(options.videos)
    frames, length, decoding = decode([item.address for item in items])
    with tempfile.TemporaryDirectory() as folder:
        work = Extractor(Path(folder), ExtractSettings(size=options.size, fps=options.fps))
        _, instruments = work._networks
        timed(measures.SceneCuts, "is_cut", "scene cuts")
        timed(people.HeadTracker, "update", "finding and following heads")
        timed(instruments.matting, "matte", "matte")
        timed(instruments.embedder, "embed", "embedding")
        for name in ("extract", "foreground", "region_mask", "encode_image", "encode_matte"):
            timed(
                cutting,
                name,
                {"extract": "crop", "foreground": "colours", "region_mask": "regions"}.get(name, "encode"),
            )
        work(items[0])  # the first call of every network is slow
        SPENT.clear()
        start = time.process_time()
        results = []
        for item in items:
            Store(Path(folder)).note(item.key).unlink(missing_ok=True)
            results.append(work(item))
        total = time.process_time() - start
        stored = sum(path.stat().st_size for path in Path(folder).rglob("*.tar"))
    kept = sum(result["frames"] for result in results)
    clips = sum(result["clips"] for result in results)
    per_frame, per_clip, hour = max(kept, 1), max(clips, 1), 3600 / total
    print(f"{len(items)} videos, {length:.0f} s, {frames} frames decoded; {clips} clips, {kept} frames stored")
    print(
        f"{total:.1f} CPU s, {total / length:.2f} a second of video, {1000 * total / per_frame:.0f} ms a stored frame"
    )
    for label, spent in [("decode", decoding), *sorted(SPENT.items(), key=lambda pair: -pair[1])]:
        print(f"  {label:30s}{100 * spent / total:5.0f} %{1000 * spent / per_frame:8.1f} ms a stored frame")
    print(f"  {'the rest':30s}{100 * (1 - (decoding + sum(SPENT.values())) / total):5.0f} %")
    print(f"a core-hour: {hour * clips:.0f} clips, {hour * kept:.0f} frames, {length / total:.2f} h of video")
    print(f"{stored / per_frame / 1000:.1f} kB a stored frame, {stored / per_clip / 1e6:.2f} MB a clip")


if __name__ == "__main__":
    main()
