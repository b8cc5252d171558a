"""Animated pictures (WebP, GIF, PNG, AVIF) as videos, by Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from PIL import Image

from megaportraits.errors import MediaError
from megaportraits.media.frames import VideoFrame, VideoInfo
from megaportraits.media.images import DAMAGE, Picture, flattened, open_picture, to_picture
from megaportraits.media.limits import Limits

_MILLISECOND = Fraction(1, 1000)
_SHORTEST, _USUAL = 20, 100
"""Milliseconds: frames with a shorter duration than the first value are shown for the second, as in browsers."""
_TIMED_FRAMES = 16
"""Number of frames from which the average frame rate is computed."""


def is_animated(image: Image.Image) -> bool:
    """Whether an open picture file is an animation; bursts of photographs and embedded thumbnails do not count."""
    return image.format in ("GIF", "PNG", "WEBP", "AVIF") and bool(getattr(image, "is_animated", False))


class Animation:
    """An animated picture; transparent pixels are shown over white, as those of still pictures are.

    Args:
        path: the file.
        limits: see `Limits`.

    Attributes:
        info: see `VideoInfo`; the duration is estimated from the first frames.

    Raises:
        MediaError: the file is damaged from the start, or exceeds a limit.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self._limits = path, limits
        with open_picture(path, limits) as image:
            limits.check_frame(path, *image.size)
            self._first = int(getattr(image, "default_image", False))  # of a PNG: shown where nothing moves
            count = int(getattr(image, "n_frames", 1)) - self._first
            limits.check_length(path, frames=count)
            problems: list[str] = []
            begun = list(self._pictures(image, min(count, _TIMED_FRAMES), problems))
            if not begun:
                raise MediaError(
                    f"{path}: the image is damaged or truncated ({problems[0]})",
                    fix="Export or download the picture again.",
                )
            mean = Fraction(sum(shown for _, shown in begun), len(begun)) * _MILLISECOND
            duration = float(mean * count)
            height, width = begun[0][0].rgb.shape[:2]
            self.info = VideoInfo(width, height, 1 / mean, duration, count, False, _MILLISECOND)
        limits.check_length(path, seconds=duration)

    def frames(self, start: float, problems: list[str]) -> Iterator[VideoFrame]:
        """All frames; `start` is ignored. The first frame that cannot be decoded is added to `problems` and ends the
        iteration.
        """
        pts = 0
        with open_picture(self.path, self._limits) as image:
            for picture, shown in self._pictures(image, self.info.frames or 1, problems):
                yield VideoFrame(flattened(picture), pts, _MILLISECOND)
                pts += shown

    def _pictures(self, image: Image.Image, count: int, problems: list[str]) -> Iterator[tuple[Picture, int]]:
        """Frames from the start and how long each is shown, in milliseconds."""
        for number in range(self._first, self._first + count):
            try:
                image.seek(number)
                image.load()
                picture = to_picture(image.copy())
            except DAMAGE as error:
                problems.append(str(error) or type(error).__name__)
                return
            shown = round(float(image.info.get("duration") or 0))
            yield picture, shown if shown >= _SHORTEST else _USUAL
