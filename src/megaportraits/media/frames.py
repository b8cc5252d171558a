"""Metadata of a video file, and its frames with their times."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from megaportraits.media.images import UInt8


@dataclass(frozen=True)
class VideoInfo:
    """Metadata of a video file.

    Attributes:
        width, height: of the decoded frames: upright, with square pixels.
        fps: average frames a second.
        duration: seconds, None when the container does not say.
        frames: estimated number of frames, None when the container does not say.
        has_audio: whether a sound track is there.
        time_base: seconds per tick of `VideoFrame.pts`.
        hdr: "PQ" or "HLG" for HDR video, whose frames are tone-mapped to BT.709.
    """

    width: int
    height: int
    fps: Fraction
    duration: float | None
    frames: int | None
    has_audio: bool
    time_base: Fraction
    hdr: str | None = None


@dataclass(frozen=True)
class VideoFrame:
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
