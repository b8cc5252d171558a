"""Where live pictures go: a window, a file, a virtual camera."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from megaportraits.errors import ConfigError
from megaportraits.media import VideoWriter
from megaportraits.media.images import UInt8
from megaportraits.runtimes.graph import require

_TITLE = "megaportraits"
_CLOCK = Fraction(1, 1000)


class Screen(Protocol):
    """Shows pictures."""

    def show(self, image: UInt8, moment: float, status: str) -> bool:
        """Show (H, W, 3) uint8.

        Args:
            image: the picture.
            moment: when its driver frame was caught, seconds.
            status: a line about speed.

        Returns:
            Whether the user wants more.
        """
        ...


def window_problem() -> str | None:
    """Why no window can be opened here; None if one can."""
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    if gui.split(":")[-1].strip() in ("", "NONE"):
        return "this OpenCV was built without windows; pip install opencv-python in place of opencv-python-headless"
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    return None


class _Window:
    def show(self, image: UInt8, moment: float, status: str) -> bool:
        del moment
        picture = np.ascontiguousarray(image[..., ::-1])
        for color, width in ((0, 0, 0), 3), ((255, 255, 255), 1):
            cv2.putText(picture, status, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, width, cv2.LINE_AA)
        cv2.imshow(_TITLE, picture)
        return cv2.waitKey(1) & 0xFF not in (27, ord("q"))


class _File:
    def __init__(self, writer: VideoWriter) -> None:
        self._writer, self._last = writer, -1
        self._start: float | None = None

    def show(self, image: UInt8, moment: float, status: str) -> bool:
        del status
        self._start = moment if self._start is None else self._start
        tick = max(round((moment - self._start) / _CLOCK), self._last + 1)
        self._writer.write(image, tick)
        self._last = tick
        return True


class _VirtualCamera:
    """Opened with the first picture, whose size it takes."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._camera: Any = None

    def show(self, image: UInt8, moment: float, status: str) -> bool:
        del moment, status
        if self._camera is None:
            self._camera = _open_virtual_camera(image.shape[1], image.shape[0], self._fps)
        self._camera.send(np.ascontiguousarray(image))
        return True

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()


@contextmanager
def window() -> Iterator[Screen]:
    """A window with the speed in its corner; q, Esc or closing it ends the show.

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
def file(path: Path, *, fps: float, overwrite: bool = False) -> Iterator[Screen]:
    """A video whose frames carry the times at which they were caught; playable whenever it ends.

    Raises:
        MediaError: it exists, or cannot be written.
    """
    with VideoWriter(path, fps=Fraction(fps).limit_denominator(1000), time_base=_CLOCK, overwrite=overwrite) as writer:
        yield _File(writer)


@contextmanager
def virtual_camera(fps: float) -> Iterator[Screen]:
    """A camera that other programs can choose.

    Raises:
        ConfigError: pyvirtualcam is not installed, or the system has no virtual camera.
    """
    require("pyvirtualcam")
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
