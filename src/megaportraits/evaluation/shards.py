"""Converts clips of shards to videos and stills, so that held-out shards can be evaluated like other files."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from megaportraits.data.clips import ClipIndex, video_of
from megaportraits.data.shard_index import CLIP_SHARDS
from megaportraits.errors import DataError
from megaportraits.media import write_image
from megaportraits.media.staging import staged_output
from megaportraits.reading import list_files

FPS = 5
"""Frame rate of videos from clips without one; `prepare` stores this rate by default."""


def holds_shards(path: Path) -> bool:
    """Whether a folder contains shards."""
    return bool(list_files(path, CLIP_SHARDS, DataError))


def files_of(paths: Sequence[Path], folder: Path, *, videos: bool, limit: int) -> list[Path]:
    """Replace every folder of shards among `paths` by files made from its clips: videos or stills.

    Of a video that was cut into several clips, the longest clip is used. The clips are ordered so that people take
    turns: a limit leaves out further clips of the same person first. Existing files are used again.

    Args:
        paths: files and folders.
        folder: where the files are written, in a sub-folder for each folder of shards.
        videos: True: videos with all frames, from clips of at least two frames. False: the first frame of each clip.
        limit: largest number of files from each folder of shards.

    Raises:
        DataError: a folder of shards has no suitable clip, or a clip cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if not holds_shards(path):
            found.append(path)
            continue
        index = ClipIndex(path)
        target = folder / _name(path)
        chosen = _chosen(index, least=2 if videos else 1, limit=limit)
        if not chosen:
            raise DataError(
                f"The shards in {path} hold no clip with {2 if videos else 1} or more frames.",
                fix="Give shards of videos as --clips, shards of stills as --stills.",
            )
        for clip in chosen:
            found.append(target / f"{index.record(clip).key}{'.mkv' if videos else '.png'}")
            if not found[-1].is_file():
                (_write_video if videos else _write_still)(index, clip, found[-1])
    return found


def _name(path: Path) -> str:
    """The name of the sub-folder for files made from a folder of shards; other shards give another name."""
    shards = [(shard.name, shard.stat().st_size) for shard in list_files(path, CLIP_SHARDS, DataError)]
    digest = hashlib.sha256(repr((str(path.resolve()), shards)).encode()).hexdigest()[:8]
    return f"{path.resolve().parent.name}-{path.resolve().name}-{digest}"


def _chosen(index: ClipIndex, *, least: int, limit: int) -> list[int]:
    longest: dict[str, tuple[int, int, str]] = {}
    for clip, summary in index.summaries():
        video = video_of(summary.key)
        if summary.frames >= least and (video not in longest or summary.frames > longest[video][1]):
            longest[video] = (clip, summary.frames, summary.identity or video)
    people: dict[str, list[int]] = defaultdict(list)
    for clip, _, person in longest.values():
        people[person].append(clip)
    turns = max((len(clips) for clips in people.values()), default=0)
    return [clips[turn] for turn in range(turns) for clips in people.values() if turn < len(clips)][:limit]


def _write_still(index: ClipIndex, clip: int, path: Path) -> None:
    write_image(path, index.read_frame(clip, 0, coords=False).image)


def _write_video(index: ClipIndex, clip: int, path: Path) -> None:
    """Write a lossless video (FFV1, RGB), so that results are compared with exactly the stored frames."""
    record, frames = index.read_clip(clip, coords=False)
    with staged_output(path, overwrite=False) as part:
        rate = Fraction(record.fps or FPS).limit_denominator(1000)
        _encode(part, (frame.image for frame in frames), record.size, rate)


def _encode(path: Path, images: Iterable[np.ndarray], size: int, rate: Fraction) -> None:
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=rate, width=size, height=size, pix_fmt="bgr0")
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = number, 1 / rate
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
