"""Drivers for distillation: clips of `synth` and `prepare`, and videos, which are first cut into such clips."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ClipIndex, ShardWriter
from megaportraits.data.shard_index import CLIP_SHARDS
from megaportraits.errors import DataError, MediaError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.matting import Matting
from megaportraits.media import is_video
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HeadPose
from megaportraits.ops.pictures import composite, resize
from megaportraits.pipeline.driver import DriverFrame, FrameSource, HeadFollower
from megaportraits.reading import is_folder, read_record

T = TypeVar("T")
_CLIP = 16
"""Frames of a clip that is cut from a video."""
_CLIPS_PER_SHARD = 16
_OTHERS = {".tar", ".json", ".jsonl", ".md", ".html", ".csv", ".txt", ".partial"}
"""Suffixes of files that lie beside shards and videos and are skipped without being opened."""
HELD_OUT = 0.1
"""Fraction of a folder's clips held out for validation where the folder has no `val` beside it; of a video, its end."""

OnProgress = Callable[[str, int, int], None]
"""Called with the name of the step, the number of items done and the total."""


@dataclass(frozen=True)
class DriverHead:
    """A driver's head crop.

    Attributes:
        image: (S, S, 3) uint8, the image for the teacher.
        matte: (S, S) uint8, its alpha.
        pose: head pose, crop coordinates.
        origin: the clip and frame that it came from.
    """

    image: UInt8
    matte: UInt8
    pose: HeadPose
    origin: str


@dataclass(frozen=True)
class Drivers:
    """Frames of clips, in the order in which they are used.

    Attributes:
        indices: one index for each folder of shards.
        frames: (folder, clip, frame) numbers.
        seed: random seed of the backgrounds for synthetic people, which are stored without one.
    """

    indices: Sequence[ClipIndex]
    frames: Sequence[tuple[int, int, int]]
    seed: int = 0

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, number: int, size: int) -> DriverHead:
        """Read driver `number` at `size` pixels. Synthetic people get a flat background colour."""
        folder, clip, position = self.frames[number]
        index = self.indices[folder]
        record, frame = index.record(clip), index.read_frame(clip, position, coords=False)
        image = frame.image
        if record.kind != "real":
            color = np.random.default_rng((self.seed, number)).uniform(0, 255, 3)
            image = composite(image, frame.matte, color)
        name = f"{Path(index.shares[0].folder).name}/{record.key} frame {position}"
        return DriverHead(resize(image, size), resize(frame.matte, size), frame.labels.pose, name)

    def named(self) -> list[str]:
        """Names of the frames, for comparison with an earlier run."""
        return [f"{self.indices[i].record(c).key}:{f}" for i, c, f in self.frames]


def find_drivers(
    places: Sequence[Path],
    work: Path,
    *,
    count: int,
    size: int,
    every: int = 2,
    seed: int = 0,
    progress: OnProgress | None = None,
) -> tuple[Drivers, Drivers]:
    """Training and validation drivers from all shards and videos in folders and their subfolders.

    Frames are shuffled; synthetic and real frames alternate as long as there are both.

    Args:
        places: folders with `clips-*.tar` shards, videos, or both.
        work: folder for the clips that are cut from videos; existing clips are kept.
        count: maximum number of training frames; the maximum for validation is a tenth of it.
        size: side of the head crops cut from videos, pixels.
        every: take every n-th frame of a video.
        seed: random seed of the order.

    Raises:
        DataError: a folder is missing, or there are neither shards nor videos with a face.
    """
    for place in places:
        if not is_folder(place, DataError):
            raise DataError(f"the folder of drivers {place} does not exist", fix="Give a folder of videos or shards.")
    files = [path for place in places for path in sorted(place.rglob("*")) if work not in path.parents]
    folders = list(dict.fromkeys(path.parent for path in files if path.match(CLIP_SHARDS)))
    videos = [path for path in files if _is_video(path)]
    for done, video in enumerate(videos):
        if progress is not None:
            progress("videos", done, len(videos))
        target = work / f"{done:03d}-{video.stem}"
        if cut_video(video, target, size=size, every=every):
            folders.append(target)
    if not folders:
        raise DataError(
            f"No drivers in {', '.join(map(str, places))}: neither shards {CLIP_SHARDS} nor videos with a face.",
            fix="Give a folder of videos, or one that `megaportraits synth` or `prepare` filled.",
        )
    indices = [ClipIndex(path) for path in folders]
    parts = [_split(index, path, folders) for index, path in zip(indices, folders, strict=True)]
    learned = _in_turn(indices, [part for part, _ in parts], count, seed)
    measured = _in_turn(indices, [part for _, part in parts], max(count // 10, 16), seed)
    if not learned or not measured:
        raise DataError(
            f"The drivers in {', '.join(map(str, places))} are a single clip: nothing is left to measure with.",
            fix=f"Give longer videos (a clip is {_CLIP} frames), or shards of several clips.",
        )
    return Drivers(indices, learned, seed), Drivers(indices, measured, seed + 1)


def _split(index: ClipIndex, folder: Path, folders: Sequence[Path]) -> tuple[range, range]:
    """The training clips and the validation clips of a folder."""
    clips = range(len(index))
    if folder.name == "val" and folder.with_name("train") in folders:
        return clips[:0], clips
    if folder.name == "train" and folder.with_name("val") in folders:
        return clips, clips[:0]
    kept = max(1, round(len(clips) * HELD_OUT)) if len(clips) > 1 else 0
    return clips[: len(clips) - kept], clips[len(clips) - kept :]


def _in_turn(indices: Sequence[ClipIndex], parts: Sequence[range], most: int, seed: int) -> list[tuple[int, int, int]]:
    rng = np.random.default_rng(seed)
    kinds: dict[bool, list[tuple[int, int, int]]] = {False: [], True: []}
    for number, (index, clips) in enumerate(zip(indices, parts, strict=True)):
        for clip, summary in index.summaries():
            if clip in clips:
                kinds[summary.kind == "real"] += [(number, clip, frame) for frame in range(summary.frames)]
    shuffled = [[frames[i] for i in rng.permutation(len(frames))] for frames in kinds.values()]
    turns = (frame for pair in itertools.zip_longest(*shuffled) for frame in pair if frame is not None)
    return list(itertools.islice(turns, most))


def _is_video(path: Path) -> bool:
    if not path.is_file() or path.name.startswith(".") or path.suffix in _OTHERS:
        return False
    try:
        return is_video(path)
    except MediaError:
        return False


def cut_video(video: Path, folder: Path, *, size: int, every: int = 2) -> bool:
    """Track the head in a video and write its crops, mattes and poses as clips. A finished folder is kept.

    Returns:
        Whether the folder holds any clip. It holds none if the video shows no face or cannot be read.
    """
    done = folder / "done.json"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(CLIP_SHARDS):
            leftover.unlink()  # left by an interrupted run
        count = 0
        try:
            for number, clips in enumerate(_batches(_clips(video, size, every), _CLIPS_PER_SHARD)):
                with ShardWriter(folder, number) as shard:
                    for record, frames in clips:
                        shard.write(record, frames)
                        count += 1
        except MediaError as error:
            done.write_text(json.dumps({"clips": count, "problem": error.message}), encoding="utf-8")
            return count > 0
        done.write_text(json.dumps({"clips": count}), encoding="utf-8")
    return bool(read_record(done, DataError, fix=f"Remove {folder} and repeat: the video is cut again.").get("clips"))


def _clips(video: Path, size: int, every: int) -> Iterator[tuple[ClipRecord, list[ClipFrame]]]:
    source, matting = FrameSource(video), Matting()
    follower = HeadFollower(FaceAnalyzer(reject_animals=False), size)
    seen = (view for number, view in enumerate(map(follower.look, source.frames())) if number % every == 0)
    heads = (_frame(view, matting, size) for view in seen if view.head is not None)
    for number, frames in enumerate(_batches(heads, _CLIP)):
        labels = tuple(frame.labels for frame in frames)
        fps = float(source.fps) / every
        yield ClipRecord(f"{number:05d}", "real", video.stem, None, size, fps, (), labels), frames


def _frame(view: DriverFrame, matting: Matting, size: int) -> ClipFrame:
    assert view.head is not None
    head = view.head
    matte = matting.matte(view.frame.image, head.face, head.crop, size)
    pose = head.pose.to_crop_pose(head.crop)
    labels = FrameLabels(pose.rotation, pose.translation, pose.scale)
    return ClipFrame(head.image, np.rint(matte * 255).astype(np.uint8), labels)


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(itertools.islice(items, size)):
        yield batch
