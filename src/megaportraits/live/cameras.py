"""Sources of live frames: a webcam, or a video file played at its own speed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from megaportraits.errors import MediaError
from megaportraits.media import VideoFrame, VideoReader, is_video

_MICROSECONDS = Fraction(1, 1_000_000)


def open_camera(name: str, *, loop: bool = False, mirror: bool = False) -> Iterator[VideoFrame]:
    """Yield frames in real time. A frame's time is its capture time, seconds of `time.monotonic`.

    Args:
        name: a webcam's number, or a video file.
        loop: restart a video when it ends.
        mirror: flip every frame horizontally, as in a mirror.

    Raises:
        MediaError: no such camera or video.
    """
    frames = webcam(int(name)) if name.isdecimal() else paced(Path(name), loop=loop)
    return map(_mirrored, frames) if mirror else frames


def webcam(number: int) -> Iterator[VideoFrame]:
    """Yield frames of a webcam until it is unplugged.

    Raises:
        MediaError: the webcam cannot be opened, or delivers no frames.
    """
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        where = f" (/dev/video{number})" if sys.platform.startswith("linux") else ""
        raise MediaError(
            f"webcam {number}{where} cannot be opened",
            fix="Close programs that use it, choose another --input number, or give a video file.",
        )
    # Camera drivers queue frames by default, which adds latency.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return _caught(capture, number)


def paced(path: Path, *, loop: bool = False, clock: Callable[[], float] = time.monotonic) -> Iterator[VideoFrame]:
    """Yield a video's frames in real time, by their times relative to the first frame.

    Raises:
        MediaError: the file is no video.
    """
    if not is_video(path):
        raise MediaError(f"{path}: live needs a video or a webcam, got a still image", fix="Give a video file.")
    return _played(VideoReader(path), loop, clock)


def _caught(capture: cv2.VideoCapture, number: int) -> Iterator[VideoFrame]:
    try:
        first = True
        while True:
            ok, picture = capture.read()
            if not ok:
                if first:
                    raise MediaError(f"webcam {number} gives no picture", fix="Check its cover and its permissions.")
                return
            first = False
            yield _frame(np.ascontiguousarray(picture[..., ::-1]), time.monotonic())
    finally:
        capture.release()


def _played(reader: VideoReader, loop: bool, clock: Callable[[], float]) -> Iterator[VideoFrame]:
    while True:
        begin: float | None = None
        for frame in reader:
            begin = clock() - frame.time if begin is None else begin
            time.sleep(max(begin + frame.time - clock(), 0))
            yield _frame(frame.image, clock())
        if not loop:
            return


def _frame(image: np.ndarray, moment: float) -> VideoFrame:
    return VideoFrame(image, round(moment / _MICROSECONDS), _MICROSECONDS)


def _mirrored(frame: VideoFrame) -> VideoFrame:
    return VideoFrame(np.ascontiguousarray(frame.image[:, ::-1]), frame.pts, frame.time_base)
