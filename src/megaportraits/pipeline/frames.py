"""The frame type that `Avatar.animate` and `animate_group` yield."""

from __future__ import annotations

from dataclasses import dataclass

from megaportraits.media import VideoFrame
from megaportraits.media.images import UInt8

BATCH = 4
"""Frames that the networks process together; `benchmarks/inference.py --batch 4` measures the gain."""


@dataclass(frozen=True)
class AnimatedFrame:
    """One frame of an animation.

    Attributes:
        image: (H, W, 3) uint8 RGB, or straight RGBA with a transparent background.
        square: (N, N, 3) uint8, the head crop alone, in the driver crop's coordinates.
        driver: (N, N, 3) uint8, the driver's head crop; None before its first face.
        frame: the driver's frame, with its time.
        held: whether no driver face was found in this frame, so that it repeats the last motion.
    """

    image: UInt8
    square: UInt8
    driver: UInt8 | None
    frame: VideoFrame
    held: bool
