"""Video in: a stream of upright RGB frames with their exact times, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from megaportraits.errors import MediaError
from megaportraits.media.files import check_input
from megaportraits.media.images import UInt8

_UNSPECIFIED_COLORSPACE = 2
_HD_HEIGHT = 720
_NOT_VIDEO_FORMATS = frozenset({"tty", "srt", "ass", "webvtt", "aqtitle", "subviewer", "rawvideo", "bin", "xbin"})


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself.

    Attributes:
        width, height: of the frames as they are given: upright, with square pixels.
        fps: average frames a second.
        duration: seconds, None when the container does not say.
        frames: estimated number of frames, None when the container does not say.
        has_audio: whether a sound track is there.
        time_base: seconds per tick of `Frame.pts`.
    """

    width: int
    height: int
    fps: Fraction
    duration: float | None
    frames: int | None
    has_audio: bool
    time_base: Fraction


@dataclass(frozen=True)
class Frame:
    """One video frame.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright, square pixels.
        pts: presentation time in ticks of `time_base`, strictly increasing through a video.
        time_base: seconds per tick.
    """

    image: UInt8
    pts: int
    time_base: Fraction

    @property
    def time(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)


class VideoReader:
    """Iterate over the frames of a video file, in order, once per `iter()` call.

    Rotation metadata and non-square pixels are applied, variable frame rates are kept as they are, sound is
    not needed. Damage in the middle or at the end of a file costs the damaged frames only: what decodes is
    given, and `damage` says afterwards what did not.

    Args:
        path: the file.
        start: seconds; frames begin at the key frame before it where the file can be searched, else at the first.
        threads: of the decoder, 0 as many as it likes; what several make of damaged frames differs from time to time.

    Attributes:
        path: the file.
        info: see `VideoInfo`.
        damage: None, or one sentence about what could not be decoded in the latest pass.

    Raises:
        MediaError: the file is missing, empty, no video, or damaged from the start.
    """

    def __init__(self, path: str | Path, *, start: float = 0.0, threads: int = 0) -> None:
        self.path = check_input(path)
        self.start, self.threads = start, threads
        self.damage: str | None = None
        with _open(self.path) as container:
            stream = _video_stream(container, self.path, self.threads)
            first = next(_decode(container, stream, []), None)
            if first is None:
                raise MediaError(
                    f"{self.path}: not a single video frame can be decoded",
                    fix="The file is damaged; export or download it again.",
                )
            height, width = _upright(first, _pixel_aspect(stream)).shape[:2]
            self.info = _describe(container, stream, width, height)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open between passes."""

    def __iter__(self) -> Iterator[Frame]:
        problems: list[str] = []
        self.damage = None
        step = max(1, round(1 / (self.info.fps * self.info.time_base)))
        last: int | None = None
        with _open(self.path) as container:
            stream = _video_stream(container, self.path, self.threads)
            aspect = _pixel_aspect(stream)
            if self.start > 0:
                _seek(container, stream, self.start)
            for frame in _decode(container, stream, problems):
                pts = frame.pts
                if pts is None or (last is not None and pts <= last):
                    # Broken muxers repeat or omit times; a writer needs strictly increasing ones.
                    pts = 0 if last is None else last + step
                last = pts
                yield Frame(_upright(frame, aspect), pts, self.info.time_base)
        if problems:
            self.damage = f"{len(problems)} damaged part(s) were skipped ({problems[0]})"


def is_video(path: str | Path) -> bool:
    """Whether the file is a video or an animated GIF or PNG, not a still image; looks inside, not at the name.

    Raises:
        MediaError: the file is missing, empty, or neither of the two.
    """
    path = check_input(path)
    try:
        with Image.open(path) as image:
            return bool(getattr(image, "is_animated", False)) and image.format in ("GIF", "PNG")
    except UnidentifiedImageError:
        pass
    except (OSError, SyntaxError, ValueError):
        return False  # an image, though a damaged one: read_image will say so
    with _open(path) as container:
        _video_stream(container, path)
    return True


def _open(path: Path) -> Any:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path}: expected an image or a video, got a file that opens as neither ({_reason(error)})",
            fix="Give a JPEG, PNG or WebP picture, or an MP4, MOV, MKV, WebM, AVI or MPEG video that plays.",
        ) from error
    if container.format.name in _NOT_VIDEO_FORMATS:
        name = container.format.name
        container.close()
        raise MediaError(
            f"{path}: expected an image or a video, got text or raw data (read as {name!r})",
            fix="Give a JPEG, PNG or WebP picture, or an MP4, MOV, MKV, WebM, AVI or MPEG video.",
        )
    return container


def _video_stream(container: Any, path: Path, threads: int = 0) -> Any:
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None:
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
            return stream
    kind = "sound only" if container.streams.audio else "neither"
    container.close()
    raise MediaError(
        f"{path}: expected an image or a video, got {kind} (no video track)",
        fix="Give a JPEG, PNG or WebP picture, or an MP4, MOV, MKV, WebM, AVI or MPEG video.",
    )


def _decode(container: Any, stream: Any, problems: list[str]) -> Iterator[Any]:
    """Frames of one stream; what cannot be decoded is noted in `problems` and skipped."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            problems.append(_reason(error))
            return
        try:
            for frame in packet.decode():
                if not frame.is_corrupt:
                    yield frame
                else:
                    problems.append("a frame with missing data")
        except av.FFmpegError as error:
            problems.append(_reason(error))


def _seek(container: Any, stream: Any, start: float) -> None:
    """Go to the last key frame before `start`; files that cannot be searched are decoded from their beginning."""
    with suppress(av.FFmpegError):
        container.seek(int(start / stream.time_base), stream=stream, backward=True)


def _pixel_aspect(stream: Any) -> float:
    """Width of a pixel over its height; 1 when the file does not say or says nonsense."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 else 1.0


def _upright(frame: Any, aspect: float) -> UInt8:
    """Decoded frame to RGB with its rotation and pixel shape applied."""
    colorspace = None
    if frame.colorspace == _UNSPECIFIED_COLORSPACE and frame.height >= _HD_HEIGHT:
        colorspace = av.video.reformatter.Colorspace.ITU709  # what players assume for unmarked HD
    image: UInt8 = frame.reformat(format="rgb24", src_colorspace=colorspace, threads=1).to_ndarray()
    if aspect != 1:
        width = max(1, round(image.shape[1] * aspect))
        image = cv2.resize(image, (width, image.shape[0]), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    quarter_turns = round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


def _describe(container: Any, stream: Any, width: int, height: int) -> VideoInfo:
    fps = stream.average_rate or stream.guessed_rate or Fraction(25)
    duration: float | None = None
    if stream.duration is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / av.time_base
    frames = stream.frames or (round(duration * float(fps)) if duration else None)
    has_audio = any(audio.codec_context is not None for audio in container.streams.audio)
    return VideoInfo(width, height, Fraction(fps), duration, frames, has_audio, Fraction(stream.time_base))


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).strip().splitlines()[0]
