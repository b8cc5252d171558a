"""A camera, a tracker, an engine and a screen that tests control step by step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from megaportraits.faces.detector import Blendshapes, Face
from megaportraits.faces.pose import FacePose
from megaportraits.live.screens import Reply
from megaportraits.media import VideoFrame
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import Crop, HeadPose
from megaportraits.pipeline import Rendering
from megaportraits.pipeline.driver import DriverFrame, HeadView

SIZE = 8


def frame(number: int) -> VideoFrame:
    """A frame that carries its number as its grey level and its time."""
    return VideoFrame(np.full((SIZE, SIZE, 3), number, np.uint8), number, Fraction(1))


def look(seen: VideoFrame) -> DriverFrame:
    """A head that is the whole frame; none in black ones."""
    if not seen.image.any():
        return DriverFrame(seen, None)
    face = Face(np.zeros(4, np.float32), np.zeros((478, 3), np.float32), 1.0, np.zeros(52, np.float32))
    pose = FacePose(np.eye(3), 1.0, np.zeros(2))
    return DriverFrame(seen, HeadView(seen.image, Crop(4, 4, 8), pose, face))


def number_of(picture: UInt8) -> int:
    return int(picture[0, 0, 0])


class Mirror:
    """An engine that shows the driver's crop itself, and lets a test hold it back."""

    size = SIZE

    def __init__(self) -> None:
        self.started, self.allowed = threading.Semaphore(0), threading.Semaphore(0)
        self.held = False

    def draw(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Rendering:
        if self.held:
            self.started.release()
            assert self.allowed.acquire(timeout=600)
        opaque = np.ones((*head.shape[:2], 1), np.float32)
        return Rendering(np.dstack([head.astype(np.float32) / 255, opaque]), pose)


def compose(rendering: Rendering, view: DriverFrame) -> UInt8:
    return np.rint(rendering.premultiplied[..., :3] * 255).astype(np.uint8)


class Wall:
    """A screen that keeps what it was shown, and what there was to wait for.

    Args:
        most: the user leaves after so many pictures.
        patience: the user leaves after so many frames without any face yet.
        neutral: frames at which the user calls the face neutral.
    """

    def __init__(self, most: int = 10**6, patience: int = 10**6, neutral: tuple[int, ...] = ()) -> None:
        self.shown: list[int] = []
        self.waited = 0
        self.second = threading.Event()
        self._most, self._patience, self._neutral = most, patience, neutral

    def show(self, image: UInt8, moment: float, status: str) -> Reply:
        self.shown.append(number_of(image))
        if len(self.shown) == 2:
            self.second.set()
        if len(self.shown) >= self._most:
            return Reply.LEAVE
        return Reply.NEUTRAL if round(moment) in self._neutral else Reply.MORE

    def wait(self, image: UInt8, moment: float) -> Reply:
        self.waited += 1
        return Reply.LEAVE if self.waited >= self._patience else Reply.MORE


def numbers(*values: int) -> Iterator[VideoFrame]:
    return map(frame, values)
