"""Render and store distillation samples, so that a student's training does not run the teacher (3.3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from megaportraits.data.distillation import SAMPLES_PER_SHARD, DistillationSample, shard_path, write_shard
from megaportraits.errors import DataError
from megaportraits.media.folders import write_json
from megaportraits.media.images import PICTURE_SUFFIXES, UInt8
from megaportraits.models.motion import Motion
from megaportraits.ops.pictures import resize
from megaportraits.pipeline.driver_clips import Drivers
from megaportraits.pipeline.teacher import P, Teacher
from megaportraits.reading import is_file, is_folder, list_files, read_record

T = TypeVar("T")
_COMPLETE = "complete"
OnProgress = Callable[[int, int], None]
"""Called with the number of images rendered so far and the total."""


def find_avatars(folder: Path) -> dict[str, Path]:
    """The photographs of a folder by file name without suffix, which becomes the avatar's name.

    Raises:
        DataError: the folder is missing, it holds no photograph, or two photographs have the same name.
    """
    if not is_folder(folder, DataError):
        raise DataError(f"the folder of avatars {folder} does not exist", fix="Give a folder of photographs.")
    photos = [path for path in list_files(folder, "*", DataError) if path.suffix.lower() in PICTURE_SUFFIXES]
    named = {path.stem: path for path in photos}
    if not named:
        raise DataError(f"no photographs in {folder}", fix=f"Avatars are files {', '.join(PICTURE_SUFFIXES)}.")
    if len(named) < len(photos):
        raise DataError(f"two photographs in {folder} share a name", fix="The names of avatars have to differ.")
    return named


@dataclass(frozen=True)
class DistillationWriter(Generic[P]):
    """Renders distillation samples for a list of avatars.

    Attributes:
        teacher: see `Teacher`.
        avatars: photographs by name; their order is the avatars' order.
        size: side of the driver's head crops that the teacher gets, pixels.
        driver_size: side at which drivers are stored, pixels.
        picture_size: side at which the teacher's images are stored, whatever its own output size, pixels.
        per_driver: number of avatars, chosen at random, that are rendered for one driver; 0: all.
        seed: random seed of that choice.
        batch: frames that the teacher renders together: 4 suit a CPU, a GPU needs more.
        part: (i, n): render every n-th shard starting with shard i, for process i of n that fill one folder.
    """

    teacher: Teacher[P]
    avatars: dict[str, Path]
    size: int
    driver_size: int
    picture_size: int
    per_driver: int = 0
    seed: int = 0
    batch: int = 4
    part: tuple[int, int] = (0, 1)

    def make(self, parts: dict[str, Drivers], folder: Path, progress: OnProgress | None = None) -> None:
        """Write the samples of every part into `folder/PART`. Existing shards are kept.

        Several processes may fill one folder, each its own shards; `samples_complete` tells when all have finished.

        Raises:
            DataError: the folder holds samples made with other inputs or options.
            FaceError: a photograph shows no face.
        """
        self._claim(folder, {part: drivers.named() for part, drivers in parts.items()})
        todo = [
            (shard_path(folder / part, number), drivers, range(start, min(start + SAMPLES_PER_SHARD, len(drivers))))
            for part, drivers in parts.items()
            for number, start in enumerate(range(0, len(drivers), SAMPLES_PER_SHARD))
        ]
        todo = todo[self.part[0] :: self.part[1]]
        each = min(self.per_driver or len(self.avatars), len(self.avatars))
        total, done = each * sum(len(numbers) for _, _, numbers in todo), 0
        missing = any(not path.exists() for path, _, _ in todo)
        people = [self.teacher.encode(photo) for photo in self.avatars.values()] if missing else []
        for path, drivers, numbers in todo:
            if not path.exists():
                write_shard(path, self._samples(people, drivers, numbers))
            done += each * len(numbers)
            if progress is not None:
                progress(done, total)

    def _claim(self, folder: Path, parts: dict[str, list[str]]) -> None:
        """Record what the samples depend on, or compare with the existing record."""
        drivers = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        facts: dict[str, Any] = {
            "format": 1,
            "teacher": self.teacher.name,
            "sha256": self.teacher.sha256,
            "avatars": {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in self.avatars.items()},
            "drivers": drivers,
            **{name: getattr(self, name) for name in ("size", "driver_size", "picture_size", "per_driver", "seed")},
        }
        path = folder / "distillation.json"
        if is_file(path, DataError):
            before = read_record(path, DataError, fix="Choose another --run folder, or remove its folder distillation.")
            wrong = [name for name, value in facts.items() if name != "teacher" and before.get(name) != value]
            if wrong:  # the hash of the weights identifies a teacher; its name may differ
                wrong = ["teacher" if name == "sha256" else name for name in wrong]
                raise DataError(
                    f"{folder} holds distillation samples made with other {', '.join(wrong)}",
                    fix="Give the same avatars, drivers, teacher and options, or choose another --run folder.",
                )
            return
        write_json(path, facts, indent=1)  # several processes may write the same record at once

    def _samples(self, people: Sequence[P], drivers: Drivers, numbers: range) -> Iterator[DistillationSample]:
        """The samples of a shard, rendered avatar by avatar in batches."""
        heads = [drivers.read(number, self.size) for number in numbers]
        motions: list[Motion] = []
        for batch in _batches(heads, self.batch):
            motions += self.teacher.look([head.image for head in batch], [head.pose for head in batch])
        chosen = [self._choose(drivers.seed, number) for number in numbers]
        pictures: list[dict[int, UInt8]] = [{} for _ in heads]
        poses = [head.pose for head in heads]
        for jobs in self._jobs(len(people), chosen):
            renderings = self.teacher.render([people[avatar] for avatar, _ in jobs], [motions[i] for _, i in jobs])
            for (avatar, i), rendering in zip(jobs, renderings, strict=True):
                pictures[i][avatar] = np.rint(rendering.resized(self.picture_size).clip(0, 1) * 255).astype(np.uint8)
                poses[i] = rendering.pose
        for number, head, pose, drawn_by in zip(numbers, heads, poses, pictures, strict=True):
            small = resize(head.image, self.driver_size), resize(head.matte, self.driver_size)
            yield DistillationSample(f"{number:08d}", head.origin, *small, pose, drawn_by)

    def _jobs(self, count: int, chosen: Sequence[set[int]]) -> Iterator[Sequence[tuple[int, int]]]:
        """Batches of (avatar, driver) to render together, ordered by avatar."""
        by_avatar = [[(avatar, i) for i, avatars in enumerate(chosen) if avatar in avatars] for avatar in range(count)]
        groups = [[job for jobs in by_avatar for job in jobs]] if self.teacher.mixes_people else by_avatar
        for group in groups:
            yield from _batches(group, self.batch)

    def _choose(self, part: int, driver: int) -> set[int]:
        count = len(self.avatars)
        if not 0 < self.per_driver < count:
            return set(range(count))
        rng = np.random.default_rng((self.seed, part, driver))
        return set(rng.choice(count, self.per_driver, replace=False).tolist())


def mark_complete(folder: Path) -> None:
    """Mark a folder's samples as complete; called once, when every process has finished."""
    (folder / _COMPLETE).touch()


def samples_complete(folder: Path) -> bool:
    """Whether `mark_complete` was called for this folder."""
    return (folder / _COMPLETE).is_file()


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
