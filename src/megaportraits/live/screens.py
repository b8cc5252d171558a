"""Outputs of live animation: a window, a file, a virtual camera."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from megaportraits.errors import ConfigError
from megaportraits.extras import require
from megaportraits.media import VideoWriter
from megaportraits.media.images import UInt8
from megaportraits.media.staging import Sign
from megaportraits.ops.pictures import resize

_TITLE = "megaportraits"
_CLOCK = Fraction(1, 1000)
_WAITING_SIDE = 480
"""Longest side, pixels, of the camera image that is shown while no face has been found."""


class Reply(IntEnum):
    """The user's request; of several screens' replies the largest counts."""

    MORE = 0
    NEUTRAL = 1
    """Use the current face as the neutral frame of relative motion."""
    LEAVE = 2


_KEYS = {27: Reply.LEAVE, ord("q"): Reply.LEAVE, ord("n"): Reply.NEUTRAL}


class Screen(Protocol):
    """Interface of an output for live images."""

    def show(self, image: UInt8, moment: float, status: str) -> Reply:
        """Show (H, W, 3) uint8.

        Args:
            image: the image.
            moment: capture time of its driver frame, seconds.
            status: a line about speed.
        """
        ...

    def wait(self, image: UInt8, moment: float) -> Reply:
        """Called in place of `show` until the first face is found.

        Args:
            image: (H, W, 3) uint8, the camera's image. Only a local window may show it; it must not reach a file or
                other people.
            moment: capture time, seconds.
        """
        ...


def window_problem() -> str | None:
    """The reason why no window can be opened on this machine; None if one can."""
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    if gui.split(":")[-1].strip() in ("", "NONE"):
        return "this OpenCV was built without windows; pip install opencv-python in place of opencv-python-headless"
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    return None


class _Window:
    def __init__(self) -> None:
        self._seen = False

    def show(self, image: UInt8, moment: float, status: str) -> Reply:
        del moment
        if self._closed():
            return Reply.LEAVE
        picture = np.ascontiguousarray(image[..., ::-1])
        for color, width in ((0, 0, 0), 3), ((255, 255, 255), 1):
            cv2.putText(picture, status, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, width, cv2.LINE_AA)
        cv2.imshow(_TITLE, picture)
        return _KEYS.get(cv2.waitKey(1) & 0xFF, Reply.MORE)

    def wait(self, image: UInt8, moment: float) -> Reply:
        factor = min(_WAITING_SIDE / max(image.shape), 1)
        size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        small = resize(image, size)
        return self.show(small, moment, "no face yet: sit upright, in good light")

    def _closed(self) -> bool:
        """Whether the user closed the window. False if it was never reported visible, as on some systems."""
        try:
            visible = cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            visible = False
        closed = self._seen and not visible
        self._seen = self._seen or visible
        return closed


class _FileScreen:
    """Writes a video. With sound, times count from the camera's first frame, else from the first image shown."""

    def __init__(self, writer: VideoWriter, *, sound: bool) -> None:
        self._writer, self._last, self._sound = writer, -1, sound
        self._start: float | None = None

    def show(self, image: UInt8, moment: float, status: str) -> Reply:
        del status
        self._start = moment if self._start is None else self._start
        tick = max(round((moment - self._start) / _CLOCK), self._last + 1)
        self._writer.write(image, tick)
        self._last = tick
        return Reply.MORE

    def wait(self, image: UInt8, moment: float) -> Reply:
        del image
        if self._sound and self._start is None:
            self._start = moment
        return Reply.MORE


class _VirtualCamera:
    """A virtual camera, opened with the first image and at its size."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._camera: Any = None

    def show(self, image: UInt8, moment: float, status: str) -> Reply:
        del moment, status
        if self._camera is None:
            self._camera = _open_virtual_camera(image.shape[1], image.shape[0], self._fps)
        self._camera.send(np.ascontiguousarray(image))
        return Reply.MORE

    def wait(self, image: UInt8, moment: float) -> Reply:
        del image, moment  # viewers of the virtual camera must not see the real camera's image
        return Reply.MORE

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()


@contextmanager
def window() -> Iterator[Screen]:
    """A window with the speed in its corner. q, Esc or closing it quits; n sets the neutral frame.

    Raises:
        ConfigError: no window can be opened here.
    """
    problem = window_problem()
    if problem:
        raise ConfigError(f"no window can be opened: {problem}", fix="Use -o FILE or --virtual-camera.")
    cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
    try:
        yield _Window()
    finally:
        cv2.destroyAllWindows()


@contextmanager
def file(
    path: Path,
    *,
    fps: float,
    sound_of: Path | None = None,
    overwrite: bool = False,
    note: str | None = None,
    sign: Sign | None = None,
) -> Iterator[Screen]:
    """A video file with capture times as frame times. It is playable whenever the session ends.

    Args:
        path: the file.
        fps: nominal frame rate in the file's metadata.
        sound_of: the video that replaces the camera; its sound is copied.
        overwrite: whether an existing file may be replaced.
        note: see `VideoWriter`.
        sign: see `VideoWriter`.

    Raises:
        MediaError: the file exists, or cannot be written.
    """
    rate = Fraction(fps).limit_denominator(1000)
    writer = VideoWriter(
        path, fps=rate, time_base=_CLOCK, audio_from=sound_of, overwrite=overwrite, note=note, sign=sign
    )
    with writer:
        yield _FileScreen(writer, sound=sound_of is not None)


@contextmanager
def virtual_camera(fps: float) -> Iterator[Screen]:
    """A virtual camera that other programs can select.

    Raises:
        MissingPackageError: pyvirtualcam is not installed.
        ConfigError: the system has no virtual camera.
    """
    require("camera", "A virtual camera", "pyvirtualcam")
    camera = _VirtualCamera(fps)
    try:
        yield camera
    finally:
        camera.close()


def _open_virtual_camera(width: int, height: int, fps: float) -> Any:
    import pyvirtualcam

    try:
        return pyvirtualcam.Camera(width=width, height=height, fps=fps)
    except RuntimeError as error:
        raise ConfigError(
            f"no virtual camera: {str(error).strip().splitlines()[0]}",
            fix="Linux: load the v4l2loopback module. Windows and macOS: install OBS Studio, which brings one.",
        ) from error
