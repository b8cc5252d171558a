"""What a student learns from (3.3): anything that remembers a person and draws it with a driver's motion."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.media.images import UInt8
from megaportraits.models.motion import Motion
from megaportraits.ops.geometry import HeadPose
from megaportraits.pipeline.avatar import Avatar
from megaportraits.pipeline.compose import Rendering
from megaportraits.pipeline.motion import edit_motion
from megaportraits.pipeline.portrait import Portrait

P = TypeVar("P")


class Teacher(Protocol[P]):
    """G_HR of the paper, or G_base alone.

    Attributes:
        name, sha256: which weights made a lesson.
        mixes: whether `draw` takes several people at once; else all of one call are the same person.
    """

    name: str
    sha256: str

    @property
    def mixes_people(self) -> bool: ...

    def encode(self, photo: Path, /) -> P:
        """Remember a person; raises FaceError where there is none."""

    def look(self, drivers: Sequence[UInt8], poses: Sequence[HeadPose], /) -> list[Motion]:
        """The motions of head crops, uint8 (N, N, 3), whose poses are known; once per driver."""

    def draw(self, people: Sequence[P], motions: Sequence[Motion], /) -> list[Rendering]:
        """Each person with the motion of the same index, all pictures of one size; once per driver and avatar."""


class AvatarTeacher:
    """An `Avatar` as a teacher, with absolute motion and the driver's head size, as in the paper.

    Args:
        avatar: does the work.
        name: of its weights.
        files: its weights.
    """

    def __init__(self, avatar: Avatar, name: str, files: Sequence[Path]) -> None:
        self.avatar, self.name = avatar, name
        self.sha256 = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    def encode(self, photo: Path) -> Portrait:
        """As `Teacher`."""
        return self.avatar.encode(photo)

    def look(self, drivers: Sequence[UInt8], poses: Sequence[HeadPose]) -> list[Motion]:
        """As `Teacher`; blendshapes are measured here, in the crops, where the avatar asks for any."""
        if not self.avatar.scores:
            return self.avatar.motions(drivers, poses)
        unknown = np.full(len(BLENDSHAPE_NAMES), np.nan, np.float32)
        faces = [next(iter(self.avatar.analyzer.detect(driver, thorough=False)), None) for driver in drivers]
        measured = [unknown if face is None else face.blendshapes for face in faces]
        return self.avatar.motions(drivers, poses, measured)

    @property
    def mixes_people(self) -> bool:
        """As `Teacher`."""
        return self.avatar.mixes_people

    def draw(self, people: Sequence[Portrait], motions: Sequence[Motion]) -> list[Rendering]:
        """As `Teacher`."""
        edited = [edit_motion(person.motion, motion) for person, motion in zip(people, motions, strict=True)]
        return self.avatar.renders(people if self.mixes_people else people[0], edited)
