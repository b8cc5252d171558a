"""Read video as a stream of upright RGB frames with exact times, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from PIL import UnidentifiedImageError

from megaportraits.errors import MediaError
from megaportraits.media.animation import Animation, is_animated
from megaportraits.media.containers import OpenMedia
from megaportraits.media.files import check_input
from megaportraits.media.film import Film, video_stream
from megaportraits.media.frames import VideoFrame
from megaportraits.media.images import DAMAGE, open_picture
from megaportraits.media.limits import DEFAULT_LIMITS, Limits

FOOTAGE_SUFFIXES = (".mp4", ".mpg", ".mpeg", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts", ".gif")
"""Suffixes of videos when a folder is searched."""


class VideoReader:
    """Iterate over the frames of a video file, in order, once per `iter()` call.

    Rotation metadata and non-square pixels are applied, HDR is tone-mapped to BT.709, variable frame rates are
    preserved, and sound is not required. A file whose times do not advance is read at its nominal rate. Only damaged
    frames are lost: all other frames are returned, and afterwards `damage` describes the lost ones.

    Args:
        path: a video, or an animated WebP, GIF, PNG or AVIF.
        start: seconds; frames begin at the key frame before it if the file supports seeking, otherwise at the first.
        threads: of the decoder; 0: the decoder decides. With several threads the result for damaged frames varies.
        limits: see `Limits`.

    Attributes:
        path: the file.
        info: see `VideoInfo`.
        damage: None, or one sentence about the frames that could not be decoded in the latest pass.

    Raises:
        MediaError: the file is missing, empty, no video, damaged from the start, or exceeds a limit; while iterating,
            it turns out to be longer than a limit.
    """

    def __init__(
        self, path: str | Path, *, start: float = 0.0, threads: int = 0, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.path = check_input(path)
        self.start, self.limits = start, limits
        self.damage: str | None = None
        moving = _picture_moves(self.path, limits)
        if moving is False:
            raise MediaError(f"{self.path}: expected a video, got a still picture", fix="Give a video file.")
        self._film = Animation(self.path, limits) if moving else Film(self.path, limits, threads)
        self.info = self._film.info

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: no file is open between passes."""

    def __iter__(self) -> Iterator[VideoFrame]:
        problems: list[str] = []
        self.damage = None
        first: float | None = None
        for number, frame in enumerate(self._film.frames(self.start, problems), 1):
            first = frame.time if first is None else first
            self.limits.check_length(self.path, seconds=frame.time - first, frames=number)
            yield frame
        if problems:
            self.damage = f"{len(problems)} damaged part(s) were skipped ({problems[0]})"


def is_video(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether the file is a video or an animated picture, not a still one; decided by content, not by name.

    Raises:
        MediaError: the file is missing, empty, neither of the two, or exceeds a limit.
    """
    path = check_input(path)
    moves = _picture_moves(path, limits)
    if moves is not None:
        return moves
    with OpenMedia(path, limits) as media:
        video_stream(media, path, limits)
    return True


def _picture_moves(path: Path, limits: Limits) -> bool | None:
    """Whether a picture file is an animation; None if it is not a picture."""
    try:
        with open_picture(path, limits) as image:
            return is_animated(image)
    except UnidentifiedImageError:
        return None
    except DAMAGE:
        return False  # a damaged image, which read_image will report
