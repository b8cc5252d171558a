"""Limits on the cost of reading one file, checked before the cost arises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from megaportraits.config.options import convert_options
from megaportraits.errors import MediaError


@dataclass(frozen=True)
class Limits:
    """Bounds on one media file. Readers raise `MediaError` as soon as a file is known to exceed one of them.

    None means unbounded. The defaults suit one user's own files; a server passes smaller ones.

    Attributes:
        bytes: size of the file.
        pixels: width times height of a still picture or an animated one, checked before its pixels are decoded.
        frame_pixels: width times height of a video frame, checked before frames are decoded.
        seconds: playing time of a video, checked by its metadata and again by its frame times.
        frames: number of frames of a video, checked by its metadata and again while reading.
        probe_bytes: bytes that may be read until the first frame is decoded; a file that needs more is refused.
    """

    bytes: int | None = None
    pixels: int = 200_000_000
    frame_pixels: int = 8192 * 8192
    seconds: float | None = None
    frames: int | None = None
    probe_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        convert_options(self)

    def check_file(self, path: Path) -> None:
        """Check the size of a file.

        Raises:
            MediaError: it is larger than `bytes`.
        """
        size = path.stat().st_size
        if self.bytes is not None and size > self.bytes:
            raise MediaError(
                f"{path}: expected a file of at most {_size(self.bytes)}, got {_size(size)}",
                fix="Give a smaller picture, or a shorter or smaller video.",
            )

    def check_picture(self, path: Path, width: int, height: int) -> None:
        """Check the size of a picture.

        Raises:
            MediaError: it has more than `pixels`.
        """
        _check_area(path, "picture", width, height, self.pixels)

    def check_frame(self, path: Path, width: int, height: int) -> None:
        """Check the size of a video's frames.

        Raises:
            MediaError: they have more than `frame_pixels`.
        """
        _check_area(path, "video", width, height, self.frame_pixels)

    def check_length(self, path: Path, *, seconds: float | None = None, frames: int | None = None) -> None:
        """Check a video's playing time and number of frames; None where unknown.

        Raises:
            MediaError: it is longer than `seconds` or has more than `frames`.
        """
        if self.seconds is not None and seconds is not None and seconds > self.seconds:
            raise MediaError(
                f"{path}: expected a video of at most {self.seconds:g} seconds, got {seconds:.1f}",
                fix="Cut the video first.",
            )
        if self.frames is not None and frames is not None and frames > self.frames:
            raise MediaError(
                f"{path}: expected a video of at most {self.frames} frames, got {frames} or more",
                fix="Cut the video first, or lower its frame rate.",
            )


DEFAULT_LIMITS = Limits()


def _check_area(path: Path, kind: str, width: int, height: int, most: int) -> None:
    if width * height > most:
        raise MediaError(
            f"{path}: expected a {kind} of at most {most / 1e6:.4g} megapixels, got {width} x {height}",
            fix=f"Shrink the {kind} first; a head needs only a few hundred pixels.",
        )


def _size(count: int) -> str:
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.4g} {unit}"
    return f"{count} bytes"
