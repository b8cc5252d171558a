"""Write video: frames at the driver's times, with its sound, atomically."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from megaportraits.errors import MediaError, OutputTakenError, SigningError
from megaportraits.media.audio import AudioTrack
from megaportraits.media.images import UInt8
from megaportraits.media.staging import Sign, StagedFile, full_disk_errors, uninterrupted

_BT709 = 1
_LIMITED_RANGE = 1


@dataclass(frozen=True)
class _Format:
    """How one kind of file is encoded."""

    container: str
    codec: str
    pixels: str
    options: dict[str, str]
    alpha: bool = False


_H264 = {"crf": "17", "preset": "veryfast"}
_VP9 = {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "5", "row-mt": "1"}
_OPAQUE = {
    ".mp4": _Format("mp4", "libx264", "yuv420p", _H264),
    ".m4v": _Format("mp4", "libx264", "yuv420p", _H264),
    ".mov": _Format("mov", "libx264", "yuv420p", _H264),
    ".mkv": _Format("matroska", "libx264", "yuv420p", _H264),
    ".webm": _Format("webm", "libvpx-vp9", "yuv420p", _VP9),
}
_ALPHA = {
    ".webm": _Format("webm", "libvpx-vp9", "yuva420p", {**_VP9, "auto-alt-ref": "0"}, alpha=True),
    ".mov": _Format("mov", "prores_ks", "yuva444p10le", {"profile": "4444"}, alpha=True),
}
VIDEO_SUFFIXES = tuple(_OPAQUE)
ALPHA_SUFFIXES = tuple(_ALPHA)


class VideoWriter:
    """Write a video frame by frame, with constant memory.

    H.264 yuv420p in .mp4, .m4v, .mov and .mkv (the index first, so that the file plays while it loads), VP9
    in .webm; with `alpha`, VP9 with transparency in .webm or ProRes 4444 in .mov. 4:2:0 formats need even
    sides: an odd last column or row is repeated once.

    Frames carry the times they are given, exactly, in .mp4 and .mov; .mkv and .webm hold milliseconds. When
    video and sound of the audio source start late, both are moved by the same amount so that the earlier
    starts at 0.

    As a context manager it writes to a temporary file in the same folder. If the block ends without an exception, or by
    Ctrl-C (KeyboardInterrupt) after at least one frame, `path` is a complete, playable file. If the block raises,
    `path` is unchanged. If another file appeared at `path` during the block and `overwrite` is false, the video is kept
    under another name, which OutputTakenError gives.

    Args:
        path: output file; the suffix chooses the format.
        fps: nominal frame rate, for players and rate control.
        time_base: seconds per tick of the `pts` given to `write`; default 1 / fps.
        audio_from: a media file whose first sound track is copied, or None.
        alpha: whether frames are (H, W, 4) with straight alpha.
        overwrite: whether an existing file may be replaced.
        note: a comment for the file's metadata, or None.
        sign: signs the finished file (`credentials.Credentials.signer`), or None. If that fails, SigningError tells
            where the video is kept without signature.

    Raises:
        MediaError: unknown suffix, transparency where the format has none, the file exists, the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: Fraction | float = 25,
        time_base: Fraction | None = None,
        audio_from: str | Path | None = None,
        alpha: bool = False,
        overwrite: bool = False,
        note: str | None = None,
        sign: Sign | None = None,
    ) -> None:
        self.path, self._sign = Path(path), sign
        self._format = _choose_format(self.path, alpha)
        self._fps = Fraction(fps).limit_denominator(100_000)
        self.time_base = time_base or 1 / self._fps
        self.frames_written = 0
        self._last_pts = 0
        self._shift = 0
        self._stage = StagedFile(self.path, overwrite=overwrite)
        try:
            self._container: Any = av.open(
                str(self._stage.part), "w", format=self._format.container, options=self._muxer_options()
            )
            if note is not None:
                self._container.metadata["comment"] = note
            self._stream: Any = None
            self._audio = None if audio_from is None else AudioTrack.open(audio_from)
        except BaseException:
            self._stage.close()
            raise

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Finish this video even if the name of a side-by-side video was taken, or that video could not be signed.
        kinds = KeyboardInterrupt | OutputTakenError | SigningError
        keep = self.frames_written > 0 and (kind is None or issubclass(kind, kinds))
        try:
            if keep:
                with uninterrupted():
                    self._finish()
            else:
                self._abandon()
        except OutputTakenError as taken:
            if isinstance(error, OutputTakenError):
                raise OutputTakenError(*error.taken, *taken.taken) from None
            raise
        except SigningError as failed:
            if isinstance(error, SigningError):
                raise SigningError(failed.reason, *error.kept, *failed.kept) from None
            raise
        finally:
            self._stage.close()
        if kind is None and not keep:
            raise MediaError(f"{self.path}: no frame was written, so there is no video")

    def write(self, image: UInt8, pts: int | None = None, *, duration: int | None = None) -> None:
        """Append a frame.

        Args:
            image: (H, W, 3) RGB, or (H, W, 4) straight RGBA for a writer with `alpha`; all of one size.
            pts: time in ticks of `time_base`, larger than the previous one; default: the next regular time.
            duration: ticks the frame is shown; only the last frame's is needed by players.
        """
        channels = 4 if self._format.alpha else 3
        if image.ndim != 3 or image.shape[2] != channels or image.dtype != np.uint8:
            raise MediaError(f"expected uint8 (H, W, {channels}), got {image.dtype} {image.shape}")
        if pts is None:
            pts = 0 if self.frames_written == 0 else self._last_pts + self._regular_step()
        image = _even(image) if "420" in self._format.pixels else image
        if self._stream is None:
            self._start(image.shape[1], image.shape[0], pts)
        elif (self._stream.width, self._stream.height) != image.shape[1::-1]:
            expected = f"{self._stream.width} x {self._stream.height}"
            raise MediaError(f"expected a frame of {expected}, got {image.shape[1]} x {image.shape[0]}")
        if self.frames_written and pts <= self._last_pts:
            raise MediaError(f"expected a frame time above {self._last_pts}, got {pts}")
        self._last_pts = pts
        frame = self._to_frame(image)
        frame.pts, frame.time_base = pts - self._shift, self.time_base
        frame.duration = duration or self._regular_step()
        with full_disk_errors(self.path):
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
            if self._audio is not None:
                self._audio.mux_until(pts * self.time_base)
        self.frames_written += 1

    def _muxer_options(self) -> dict[str, str]:
        if self._format.container not in ("mp4", "mov"):
            return {}
        # The default tick of the movie header, which stores late starts, is 1 ms: too coarse.
        return {"movflags": "+faststart", "movie_timescale": str(max(1000, self.time_base.denominator))}

    def _regular_step(self) -> int:
        return max(1, round(1 / (self._fps * self.time_base)))

    def _start(self, width: int, height: int, pts: int) -> None:
        """Add the streams; possible only when the first frame's size and time are known."""
        chosen = self._format
        stream = self._container.add_stream(chosen.codec, rate=self._fps, options=dict(chosen.options))
        stream.width, stream.height, stream.pix_fmt = width, height, chosen.pixels
        stream.codec_context.time_base = stream.time_base = self.time_base
        stream.codec_context.thread_count = 1 if width * height < 200_000 else 2
        stream.codec_context.colorspace = stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc = _BT709
        stream.codec_context.color_range = _LIMITED_RANGE
        if chosen.alpha and chosen.container == "webm":
            stream.metadata["alpha_mode"] = "1"
        self._stream = stream
        start = pts * self.time_base
        if self._audio is not None:
            start = min(start, self._audio.start)
        # Whole ticks, so that differences between times stay exact.
        self._shift = pts if pts < 0 else max(0, int(start // self.time_base))
        if self._audio is not None:
            self._audio.attach(self._container, shift=self._shift * self.time_base)

    def _to_frame(self, image: UInt8) -> Any:
        frame = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(image), format="rgba" if self._format.alpha else "rgb24"
        )
        return frame.reformat(
            format=self._format.pixels,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )

    def _finish(self) -> None:
        with full_disk_errors(self.path):
            for packet in self._stream.encode():
                self._container.mux(packet)
            if self._audio is not None:
                self._audio.mux_until((self._last_pts + self._regular_step()) * self.time_base)
                self._audio.close()
            self._container.close()
            self._stage.commit(sign=self._sign)

    def _abandon(self) -> None:
        if self._audio is not None:
            self._audio.close(flush=False)
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            return  # the file is discarded; closing a container on a full disk fails again


def _choose_format(path: Path, alpha: bool) -> _Format:
    suffix = path.suffix.lower()
    table = _ALPHA if alpha else _OPAQUE
    if suffix in table:
        return table[suffix]
    kind = "a transparent video" if alpha else "a video"
    raise MediaError(
        f"{path}: expected a suffix for {kind}, got {suffix!r}", fix=f"Name the output {' or '.join(table)}."
    )


def _even(image: UInt8) -> UInt8:
    bottom, right = image.shape[0] % 2, image.shape[1] % 2
    return np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge") if bottom or right else image
