"""The teacher that a student learns from (3.3): it encodes a person and renders it with a driver's motion."""

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
    """Interface of a teacher: G_HR of the paper, or G_base alone.

    Attributes:
        name: name of the weights.
        sha256: hash of the weights, which identifies the teacher of a distillation sample.
        mixes_people: whether one call of `render` accepts several people; otherwise all must be the same person.
    """

    name: str
    sha256: str

    @property
    def mixes_people(self) -> bool: ...

    def encode(self, photo: Path, /) -> P:
        """Encode a photograph; raises FaceError if it shows no face."""

    def look(self, drivers: Sequence[UInt8], poses: Sequence[HeadPose], /) -> list[Motion]:
        """The motions of head crops, uint8 (N, N, 3), with known poses; called once per driver."""

    def render(self, people: Sequence[P], motions: Sequence[Motion], /) -> list[Rendering]:
        """Render each person with the motion of the same index, all at one size; called once per driver and avatar."""


class AvatarTeacher:
    """An `Avatar` as a teacher, with absolute motion and the driver's head size, as in the paper.

    Args:
        avatar: the model that renders.
        name: name of its weights.
        files: the weights files, for `sha256`.
    """

    def __init__(self, avatar: Avatar, name: str, files: Sequence[Path]) -> None:
        self.avatar, self.name = avatar, name
        self.sha256 = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    def encode(self, photo: Path) -> Portrait:
        """As `Teacher`."""
        return self.avatar.encode(photo)

    def look(self, drivers: Sequence[UInt8], poses: Sequence[HeadPose]) -> list[Motion]:
        """As `Teacher`; blendshapes are estimated from the crops if the avatar uses them."""
        if not self.avatar.blendshape_names:
            return self.avatar.motions(drivers, poses)
        unknown = np.full(len(BLENDSHAPE_NAMES), np.nan, np.float32)
        faces = [next(iter(self.avatar.analyzer.detect(driver, thorough=False)), None) for driver in drivers]
        measured = [unknown if face is None else face.blendshapes for face in faces]
        return self.avatar.motions(drivers, poses, measured)

    @property
    def mixes_people(self) -> bool:
        """As `Teacher`."""
        return self.avatar.mixes_people

    def render(self, people: Sequence[Portrait], motions: Sequence[Motion]) -> list[Rendering]:
        """As `Teacher`."""
        edited = [edit_motion(person.motion, motion) for person, motion in zip(people, motions, strict=True)]
        return self.avatar.renders(people if self.mixes_people else people[0], edited)
