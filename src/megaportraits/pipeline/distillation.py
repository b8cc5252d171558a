"""A teacher's pictures, drawn once and kept, so that a student's training does not wait for its teacher (3.3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from megaportraits.data.distillation import SAMPLES_PER_SHARD, DistillationSample, shard_path, write_shard
from megaportraits.data.pairs import resize
from megaportraits.errors import DataError
from megaportraits.media.folders import write_json
from megaportraits.media.images import PICTURE_SUFFIXES, UInt8
from megaportraits.models.motion import Motion
from megaportraits.pipeline.driver_clips import Drivers
from megaportraits.pipeline.teacher import P, Teacher
from megaportraits.reading import is_file, is_folder, list_files, read_record

T = TypeVar("T")
_COMPLETE = "complete"
OnProgress = Callable[[int, int], None]
"""Called with the pictures drawn and the pictures there will be."""


def find_avatars(folder: Path) -> dict[str, Path]:
    """The photographs of a folder by name, which the avatars will bear.

    Raises:
        DataError: no folder, no photograph, or two of one name.
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
    """Draws lessons of a list of avatars.

    Attributes:
        teacher: see `Teacher`.
        avatars: photographs by name; their order is the avatars' order.
        size: side of the head crops that the teacher sees, pixels.
        driver_size: side at which drivers are kept, pixels.
        picture_size: side at which the teacher's pictures are kept, whatever it draws, pixels.
        per_driver: how many avatars, drawn at random, do what one driver does; 0 takes all.
        seed: of that draw.
        batch: frames that the teacher draws together: 4 suit a CPU, a GPU wants more.
        part: (i, n): make every n-th shard from i on, for one of n makers that fill a folder together.
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
        """Write the lessons of every part into `folder/PART`; shards that are there already are not made again.

        Of several makers each writes its own shards; `samples_complete` says when all are there.

        Raises:
            DataError: the folder holds lessons that were made otherwise.
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
                write_shard(path, self._lessons(people, drivers, numbers))
            done += each * len(numbers)
            if progress is not None:
                progress(done, total)

    def _claim(self, folder: Path, parts: dict[str, list[str]]) -> None:
        """Note what the lessons depend on, or compare with what is noted there."""
        drivers = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        facts: dict[str, Any] = {
            "format": 1,
            "teacher": self.teacher.name,
            "sha256": self.teacher.sha256,
            "avatars": {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in self.avatars.items()},
            "drivers": drivers,
            **{name: getattr(self, name) for name in ("size", "driver_size", "picture_size", "per_driver", "seed")},
        }
        path = folder / "lessons.json"
        if is_file(path, DataError):
            before = read_record(path, DataError, fix="Choose another --run folder, or remove its lessons.")
            wrong = [name for name, value in facts.items() if name != "teacher" and before.get(name) != value]
            if wrong:  # a teacher is its weights, whatever the file is called
                wrong = ["teacher" if name == "sha256" else name for name in wrong]
                raise DataError(
                    f"{folder} holds lessons made with other {', '.join(wrong)}",
                    fix="Give the same avatars, drivers, teacher and options, or choose another --run folder.",
                )
            return
        write_json(path, facts, indent=1)  # several makers may write the same at once

    def _lessons(self, people: Sequence[P], drivers: Drivers, numbers: range) -> Iterator[DistillationSample]:
        """The lessons of a shard, avatar by avatar, several pictures at once."""
        heads = [drivers.read(number, self.size) for number in numbers]
        motions: list[Motion] = []
        for batch in _batches(heads, self.batch):
            motions += self.teacher.look([head.image for head in batch], [head.pose for head in batch])
        chosen = [self._choose(drivers.seed, number) for number in numbers]
        pictures: list[dict[int, UInt8]] = [{} for _ in heads]
        poses = [head.pose for head in heads]
        for jobs in self._jobs(len(people), chosen):
            renderings = self.teacher.draw([people[avatar] for avatar, _ in jobs], [motions[i] for _, i in jobs])
            for (avatar, i), drawn in zip(jobs, renderings, strict=True):
                pictures[i][avatar] = np.rint(drawn.resized(self.picture_size).clip(0, 1) * 255).astype(np.uint8)
                poses[i] = drawn.pose
        for number, head, pose, drawn_by in zip(numbers, heads, poses, pictures, strict=True):
            small = resize(head.image, self.driver_size), resize(head.matte, self.driver_size)
            yield DistillationSample(f"{number:08d}", head.origin, *small, pose, drawn_by)

    def _jobs(self, count: int, chosen: Sequence[set[int]]) -> Iterator[Sequence[tuple[int, int]]]:
        """What is drawn together: batches of (avatar, driver), avatar by avatar."""
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
    """Note that all lessons of a folder are there; once, when every maker has finished."""
    (folder / _COMPLETE).touch()


def samples_complete(folder: Path) -> bool:
    """Whether `mark_complete` was called for this folder."""
    return (folder / _COMPLETE).is_file()


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
