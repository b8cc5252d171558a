"""Track several heads through a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from megaportraits.faces.detector import Face
from megaportraits.faces.networks import Image

_LOOK_EVERY = 5
"""Frames between two detections in the whole picture."""
_THOROUGH_EVERY = 10
"""Frames without a face between two thorough detections (rotated pictures and tiles)."""
_JUMP = 0.8
"""Maximum motion of a head between two frames, in face heights."""
_SAME = 0.3
"""Two faces with at least this intersection over union are the same."""
BYSTANDER = 0.1
"""Minimum area of a counted face, relative to the largest face."""


class Analyzer(Protocol):
    """Protocol of `faces.FaceAnalyzer`."""

    def detect(self, image: Image, *, thorough: bool = True) -> list[Face]: ...

    def track(self, image: Image, previous: Face) -> Face | None: ...


@dataclass
class TrackedHead:
    """One tracked head.

    Attributes:
        number: of the head in its video, from 0.
        face: in the latest frame.
    """

    number: int
    face: Face


class HeadTracker:
    """Tracks the largest heads of a shot; counts the others.

    Args:
        analyzer: finds faces.
        limit: maximum number of tracked heads.
    """

    def __init__(self, analyzer: Analyzer, limit: int) -> None:
        self._analyzer, self._limit = analyzer, limit
        self._next = 0
        self._heads: list[TrackedHead] = []
        self._since_look = 0
        self._people = 0
        self._fresh = True

    def cut(self) -> None:
        """Start a new shot: forget all heads."""
        self._heads, self._people, self._fresh = [], 0, True

    def update(self, image: Image, allowed: npt.NDArray[np.float64] | None = None) -> tuple[list[TrackedHead], int]:
        """The heads in the next frame, and how many people are in it.

        Args:
            image: uint8 (H, W, 3).
            allowed: (4,) left, top, right, bottom in pixels: heads outside are not tracked, but counted.
        """
        kept: list[TrackedHead] = []
        for head in self._heads:
            face = self._analyzer.track(image, head.face)
            if face is None or not _is_near(face, head.face) or any(overlap(face, k.face) > _SAME for k in kept):
                continue
            kept.append(TrackedHead(head.number, face))
        lost = len(kept) < len(self._heads) or not kept
        self._since_look += 1
        if lost or self._since_look >= _LOOK_EVERY:
            self._look(image, kept, allowed)
        self._heads = kept
        return kept, max(self._people, len(kept))

    def _look(self, image: Image, kept: list[TrackedHead], allowed: npt.NDArray[np.float64] | None) -> None:
        """Detect new people and add them to `kept` up to the limit."""
        thorough = not kept and (self._fresh or self._since_look >= _THOROUGH_EVERY)
        if self._since_look >= _LOOK_EVERY and (kept or thorough):
            self._since_look = 0
        found = self._analyzer.detect(image, thorough=thorough)
        self._fresh = False
        largest = max([face.area for face in found] + [head.face.area for head in kept], default=0.0)
        strangers = [face for face in found if all(overlap(face, head.face) <= _SAME for head in kept)]
        self._people = sum(face.area >= BYSTANDER * largest for face in [*strangers, *(h.face for h in kept)])
        for face in strangers:
            if len(kept) < self._limit and face.area >= BYSTANDER * largest and lies_in(face, allowed):
                kept.append(TrackedHead(self._next, face))
                self._next += 1


def _is_near(face: Face, before: Face) -> bool:
    height = float(before.box[3] - before.box[1])
    moved = np.linalg.norm((face.box[:2] + face.box[2:] - before.box[:2] - before.box[2:]) / 2)
    return bool(moved <= _JUMP * height and 0.5 <= (face.area / max(before.area, 1e-6)) ** 0.5 <= 2)


def lies_in(face: Face, allowed: npt.NDArray[np.float64] | None) -> bool:
    """Whether the centre of a face is in a box (left, top, right, bottom, pixels); True if there is no box."""
    if allowed is None:
        return True
    x, y = (face.box[:2] + face.box[2:]) / 2
    return bool(allowed[0] <= x <= allowed[2] and allowed[1] <= y <= allowed[3])


def overlap(a: Face, b: Face) -> float:
    """Intersection over union of two faces' boxes."""
    sides = np.clip(np.minimum(a.box[2:], b.box[2:]) - np.maximum(a.box[:2], b.box[:2]), 0, None)
    shared = float(np.prod(sides))
    return shared / max(a.area + b.area - shared, 1e-9)
