"""Videos by FFmpeg: one demuxer, exact times, upright frames in BT.709 colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import MediaError
from megaportraits.media.containers import READABLE, OpenMedia, reason
from megaportraits.media.frames import VideoFrame, VideoInfo
from megaportraits.media.hdr import ColorMap
from megaportraits.media.images import UInt8
from megaportraits.media.limits import Limits
from megaportraits.ops.pictures import resize

_UNSPECIFIED_COLORSPACE = 2
_HD_HEIGHT = 720
_USUAL_FPS = Fraction(25)
_FASTEST_FPS = 480
"""Frame rates above this are treated as invalid times."""
_TIMED_PACKETS = 48
"""Number of packets whose times are examined to decide whether a file's times are usable."""


class Film:
    """A video file as FFmpeg decodes it.

    Args:
        path: the file.
        limits: see `Limits`.
        threads: of the decoder; 0: the decoder decides.

    Attributes:
        info: see `VideoInfo`.

    Raises:
        MediaError: the file is no video, is damaged from the start, or exceeds a limit.
    """

    def __init__(self, path: Path, limits: Limits, threads: int = 0) -> None:
        self.path, self._limits, self._threads = path, limits, threads
        self._colors: ColorMap | None = None
        with self._open() as media:
            stream = video_stream(media, path, limits, threads)
            first, times = _begin(media, stream)
            if first is None:
                raise MediaError(
                    f"{path}: not a single video frame of at most {limits.frame_pixels / 1e6:.4g} megapixels "
                    "can be decoded",
                    fix="The file is damaged or too large; export or download it again, or convert it to MP4 (H.264).",
                )
            limits.check_frame(path, first.width, first.height)
            self._timed = _advance(times, stream.time_base)
            self._colors = ColorMap.of(stream.codec_context.color_trc, stream.codec_context.color_primaries)
            height, width = self._upright(first, _pixel_aspect(stream)).shape[:2]
            self.info = self._describe(media.container, stream, width, height)
        limits.check_length(path, seconds=self.info.duration, frames=self.info.frames)
        if self._colors is not None and self._colors.hdr is not None:
            self._colors = self._colors.fitted(self._samples())

    def frames(self, start: float, problems: list[str]) -> Iterator[VideoFrame]:
        """The frames from the key frame before `start`, in seconds; frames that cannot be decoded are added to
        `problems`.
        """
        step = max(1, round(1 / (self.info.fps * self.info.time_base)))
        last: int | None = None
        with self._open() as media:
            stream = video_stream(media, self.path, self._limits, self._threads)
            aspect = _pixel_aspect(stream)
            if start > 0:
                _seek(media.container, stream, start)
            for frame in _decode(media, media.container.demux(stream), problems):
                pts = frame.pts
                if not self._timed and last is None and pts is not None:
                    pts = round(pts * stream.time_base / self.info.time_base)
                if pts is None or (last is not None and (pts <= last or not self._timed)):
                    # Faulty muxers repeat or omit times; a writer needs strictly increasing ones.
                    pts = 0 if last is None else last + step
                last = pts
                yield VideoFrame(self._upright(frame, aspect), pts, self.info.time_base)

    def _open(self) -> OpenMedia:
        return OpenMedia(self.path, self._limits)

    def _samples(self) -> list[npt.NDArray[np.uint16]]:
        """Frames from a few places, in the file's own colours, 16 bits."""
        samples = []
        for share in (0.0, 1 / 3, 2 / 3):
            with self._open() as media:
                stream = video_stream(media, self.path, self._limits, self._threads)
                _seek(media.container, stream, share * (self.info.duration or 0.0))
                frame = next(_decode(media, media.container.demux(stream), []), None)
                if frame is not None:
                    samples.append(_deep(frame))
        return samples

    def _upright(self, frame: Any, aspect: float) -> UInt8:
        """Decoded frame to RGB with its rotation and pixel shape applied."""
        if self._colors is not None:
            image: UInt8 = self._colors(_deep(frame))
        else:
            image = frame.reformat(format="rgb24", src_colorspace=_matrix(frame), threads=1).to_ndarray()
        if aspect != 1:
            width = max(1, round(image.shape[1] * aspect))
            image = resize(image, (width, image.shape[0]), enlarge=cv2.INTER_LINEAR)
        quarter_turns = round((frame.rotation or 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image

    def _describe(self, container: Any, stream: Any, width: int, height: int) -> VideoInfo:
        rates = [stream.average_rate, stream.guessed_rate, stream.codec_context.framerate]
        plausible = [Fraction(rate) for rate in rates if rate and 0 < rate <= _FASTEST_FPS]
        # Use the codec's rate if no average rate can be computed from the times.
        fps = next(iter(plausible if self._timed else plausible[::-1]), _USUAL_FPS)
        duration: float | None = None
        if not self._timed:
            duration = float(stream.frames / fps) if stream.frames else None
        elif stream.duration is not None:
            duration = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration = container.duration / av.time_base
        frames = stream.frames or (round(duration * float(fps)) if duration else None)
        has_audio = any(audio.codec_context is not None for audio in container.streams.audio)
        time_base = Fraction(stream.time_base) if self._timed else 1 / fps
        hdr = None if self._colors is None else self._colors.hdr
        return VideoInfo(width, height, fps, duration, frames, has_audio, time_base, hdr)


def video_stream(media: OpenMedia, path: Path, limits: Limits, threads: int = 0) -> Any:
    """The first track of moving pictures, ready to decode.

    Raises:
        MediaError: there is none, or its frames are too large.
    """
    for stream in media.container.streams.video:
        context = stream.codec_context
        if not stream.disposition & av.stream.Disposition.attached_pic and context is not None:
            limits.check_frame(path, context.width, context.height)
            context.options = {"max_pixels": str(limits.frame_pixels)}
            stream.thread_type = "AUTO"
            context.thread_count = threads
            return stream
    kind = "sound only" if media.container.streams.audio else "neither"
    raise MediaError(
        f"{path}: expected an image or a video, got {kind} (no video track)",
        fix=READABLE,
    )


def _begin(media: OpenMedia, stream: Any) -> tuple[Any, list[int | None]]:
    """The first frame (None if nothing can be decoded) and the times of the first packets."""
    times: list[int | None] = []

    def noted() -> Iterator[Any]:
        for packet in media.container.demux(stream):
            if packet.size:
                times.append(packet.pts)
            yield packet

    packets = noted()
    first = next(_decode(media, packets, []), None)
    if first is not None:
        with suppress(av.FFmpegError):
            list(islice(packets, max(0, _TIMED_PACKETS - len(times))))
    return first, times


def _advance(times: Sequence[int | None], time_base: Fraction) -> bool:
    """Whether packet times, in any order, are usable: not all equal, missing or implausible."""
    known = [time for time in times if time is not None]
    if len(times) < 2:
        return True
    span = (max(known) - min(known)) * time_base if known else Fraction(0)
    return bool(span * _FASTEST_FPS >= len(times) - 1)


def _decode(media: OpenMedia, packets: Iterator[Any], problems: list[str]) -> Iterator[Any]:
    """Frames of packets; frames that cannot be decoded are added to `problems` and skipped."""
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            problems.append(reason(error))
            return
        try:
            for frame in packet.decode():
                if not frame.is_corrupt:
                    media.found()
                    yield frame
                else:
                    problems.append("a frame with missing data")
        except av.FFmpegError as error:
            problems.append(reason(error))


def _seek(container: Any, stream: Any, start: float) -> None:
    """Seek to the last key frame before `start`; files without seeking are decoded from their beginning."""
    with suppress(av.FFmpegError):
        container.seek(int(start / stream.time_base), stream=stream, backward=True)


def _pixel_aspect(stream: Any) -> float:
    """Width of a pixel over its height; 1 if the file has no or an implausible value."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 < aspect < 10 else 1.0


def _matrix(frame: Any) -> Any:
    """The YUV matrix to assume if the file does not name one; None: use the frame's."""
    if frame.colorspace == _UNSPECIFIED_COLORSPACE and frame.height >= _HD_HEIGHT:
        return av.video.reformatter.Colorspace.ITU709  # what players assume for HD without a colour tag
    return None


def _deep(frame: Any) -> npt.NDArray[np.uint16]:
    """(H, W, 3) RGB in the file's own colours, 16 bits."""
    deep: npt.NDArray[np.uint16] = frame.reformat(
        format="rgb48le", src_colorspace=_matrix(frame), threads=1
    ).to_ndarray()
    return deep
