"""Crops and landmarks that are calm through a clip, causal, so that streams work as files do.

The driver's head has to move *inside* its crop: a crop that followed every landmark would cancel the motion
that is to be transferred, and one that jittered would add motion that never was.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from megaportraits.errors import FaceError
from megaportraits.faces.crop import Crop, crop_of_pose
from megaportraits.faces.pose import FacePose

Array = npt.NDArray[np.float64]


class OneEuroFilter:
    """The 1-euro filter (Casiez et al., CHI 2012): a low-pass whose cutoff rises with speed.

    Args:
        min_cutoff: Hz, the cutoff at rest; lower is calmer.
        beta: Hz per (unit / second), how fast the cutoff rises with speed; higher lags less.
        derivative_cutoff: Hz, the cutoff of the speed estimate.
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 0.1, derivative_cutoff: float = 1.0) -> None:
        self._min_cutoff = min_cutoff
        self._beta = beta
        self._derivative_cutoff = derivative_cutoff
        self._time: float | None = None
        self._value: Array = np.zeros(0)
        self._speed: Array = np.zeros(0)

    def __call__(self, value: npt.ArrayLike, time: float) -> Array:
        """The filtered value of an array at a time in seconds; times that do not advance change nothing."""
        raw = np.asarray(value, np.float64)
        if self._time is None or raw.shape != self._value.shape:
            self._time, self._value, self._speed = time, raw, np.zeros_like(raw)
            return raw
        elapsed = time - self._time
        if elapsed <= 0:
            return self._value
        speed = (raw - self._value) / elapsed
        self._speed = self._speed + _gain(self._derivative_cutoff, elapsed) * (speed - self._speed)
        cutoff = self._min_cutoff + self._beta * np.abs(self._speed)
        self._value = self._value + _gain(cutoff, elapsed) * (raw - self._value)
        self._time = time
        return self._value


class LandmarkSmoother:
    """Smooths landmarks (478, 3) in centimetres of the head: as strong in small images as in large ones."""

    def __init__(self, min_cutoff: float = 4.0, beta: float = 1.5) -> None:
        self._filter = OneEuroFilter(min_cutoff, beta)

    def __call__(self, landmarks: npt.NDArray[np.floating], px_per_cm: float, time: float) -> npt.NDArray[np.float32]:
        """Landmarks in pixels at a time in seconds to smoothed landmarks in pixels."""
        return (self._filter(landmarks / px_per_cm, time) * px_per_cm).astype(np.float32)


class CropTracker:
    """The head crop through a clip.

    `fixed` keeps the first crop, or the one given. `follow` stays where it is while the head's place and size
    remain in a dead zone, moves softly when they leave it, and never lets the head get further from the
    centre than `reach`.

    Args:
        mode: "fixed" or "follow".
        crop: the crop to start from; by default the first head's.
        dead_zone: radius, as a part of the side, in which the head moves without moving the crop.
        dead_zoom: ratio by which the head may grow or shrink without changing the crop's side.
        reach: the largest offset of the head from the crop's centre, as a part of the side.
        settle: seconds in which the crop makes up for 63 % of what lies outside the dead zone.
    """

    def __init__(
        self,
        mode: Literal["fixed", "follow"] = "follow",
        *,
        crop: Crop | None = None,
        dead_zone: float = 0.05,
        dead_zoom: float = 1.08,
        reach: float = 0.12,
        settle: float = 0.4,
    ) -> None:
        self._mode = mode
        self._crop = crop
        self._dead_zone = dead_zone
        self._dead_zoom = float(np.log(dead_zoom))
        self._reach = reach
        self._settle = settle
        self._time: float | None = None

    def update(self, pose: FacePose, time: float) -> Crop:
        """The crop of the frame at a time in seconds, whose head pose is given."""
        if self._crop is None:
            self._crop = crop_of_pose(pose)
        elapsed = 0.0 if self._time is None else max(time - self._time, 0.0)
        self._time = time
        if self._mode == "follow":
            self._crop = self._moved(self._crop, crop_of_pose(pose), elapsed)
        return self._crop

    def _moved(self, crop: Crop, head: Crop, elapsed: float) -> Crop:
        gain = 1 - np.exp(-elapsed / self._settle)
        zoom = float(np.log(head.side / crop.side))
        side = crop.side * float(np.exp(gain * _outside(zoom, self._dead_zoom)))
        offset = np.array([head.center_x - crop.center_x, head.center_y - crop.center_y])
        distance = float(np.hypot(*offset))
        if distance <= self._dead_zone * crop.side:
            return crop if side == crop.side else Crop(crop.center_x, crop.center_y, side)
        step = gain * (distance - self._dead_zone * crop.side)
        step = max(step, distance - self._reach * crop.side)
        x, y = offset * (step / distance)
        return Crop(crop.center_x + float(x), crop.center_y + float(y), side)


def fixed_crop(poses: Iterable[FacePose]) -> Crop:
    """One crop for a whole clip: the median place and size of its heads (a first pass over some frames).

    Raises:
        FaceError: no poses.
    """
    crops = [crop_of_pose(pose) for pose in poses]
    if not crops:
        raise FaceError("Expected at least one head in the clip, got none.", fix="Use a clip that shows a face.")
    x, y, side = np.median([(crop.center_x, crop.center_y, crop.side) for crop in crops], axis=0)
    return Crop(float(x), float(y), float(side))


def _outside(value: float, limit: float) -> float:
    """By how much a value lies outside [-limit, limit], with its sign."""
    return float(np.sign(value)) * max(abs(value) - limit, 0.0)


def _gain(cutoff: npt.ArrayLike, elapsed: float) -> Array:
    """Weight of the new sample in a first-order low-pass."""
    tau = 1 / (2 * np.pi * np.asarray(cutoff, np.float64))
    return 1 / (1 + tau / elapsed)
