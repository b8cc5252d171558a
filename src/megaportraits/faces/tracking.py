"""Stable head crops and head poses through a clip; causal, so that streams work like files.

The driver's head has to move *inside* its crop: a crop that followed every landmark would cancel the motion to be
transferred, and a jittering crop would add false motion.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from megaportraits.faces.crop import crop_of_pose
from megaportraits.faces.pose import FacePose
from megaportraits.ops.geometry import HEAD_HALF_CM, Crop, euler_to_matrix, matrix_to_euler

Array = npt.NDArray[np.float64]

_GAP = 0.25
"""Seconds without a head after which the filters are reset."""
_JUMP_DEGREES, _JUMP_CM = 25.0, 5.0
"""Larger changes between two frames mean another head or a cut."""


class OneEuroFilter:
    """The 1-euro filter (Casiez et al., CHI 2012): a low-pass whose cutoff rises with speed.

    Args:
        min_cutoff: Hz, the cutoff at rest; lower is smoother.
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


class PoseSmoother:
    """Smooths head poses from landmarks of video frames: 1-euro filters of angles, position and size.

    Camera noise makes the landmarks of a still head jitter by a pixel of 512. At rest the filters remove more than half
    of that. For a head that moves at constant speed they lag by less than `1 / (2 pi beta)`: 0.3 degrees and 1.6 mm;
    where a fast motion begins, by about a degree for some frames.

    The first pose, and the first after a gap or a jump, is returned unchanged.
    """

    def __init__(self) -> None:
        self._time = -np.inf
        self._angles: Array
        self._place: Array
        self._start(1.0)

    def __call__(self, pose: FacePose, time: float) -> FacePose:
        """The smoothed pose of the frame at a time in seconds; times that do not advance change nothing."""
        angles, place = self._measure(pose)
        turned, moved = np.abs(angles - self._angles).max(), np.abs(place - self._place).max()
        if time - self._time > _GAP or turned > _JUMP_DEGREES or moved > _JUMP_CM:
            self._start(pose.px_per_cm)
            angles, place = self._measure(pose)
        self._angles, self._place = self._turn(angles, time), self._shift(place, time)
        self._time = time
        return replace(
            pose,
            rotation=euler_to_matrix(*self._angles),
            px_per_cm=self._unit * float(np.exp(self._place[2] / HEAD_HALF_CM)),
            origin=self._place[:2] * self._unit,
        )

    def _start(self, unit: float) -> None:
        """Reset the filters; from here on a centimetre is `unit` pixels."""
        self._unit = unit
        self._turn, self._shift = OneEuroFilter(1.0, 0.5), OneEuroFilter(1.0, 1.0)
        self._angles, self._place = np.zeros(3), np.zeros(3)

    def _measure(self, pose: FacePose) -> tuple[Array, Array]:
        """Yaw, pitch and roll in degrees, within half a turn of the last ones; position and size in centimetres. The
        size is the distance of the crop's border from its centre.
        """
        angles = np.array(matrix_to_euler(pose.rotation))
        angles -= 360 * np.round((angles - self._angles) / 360)
        return angles, np.array([*pose.origin / self._unit, HEAD_HALF_CM * np.log(pose.px_per_cm / self._unit)])


class CropTracker:
    """The head crop through a clip.

    `fixed` keeps the first crop, or the given one. `follow` does not move while the head's position and size remain in
    a dead zone, moves smoothly when they leave it, and keeps the head within `reach` of its centre. `leash` is the
    first crop, or the given one, moved and zoomed only as far as needed to keep the head within `reach` and
    `reach_zoom`. It has no memory: a head at its first position has the first crop again.

    Args:
        mode: "fixed", "follow" or "leash".
        crop: the crop to start from; by default the first head's.
        dead_zone: radius, as a part of the side, in which the head moves without moving the crop.
        dead_zoom: ratio by which the head may grow or shrink without changing the crop's side.
        reach: the largest offset of the head from the crop's centre, as a part of the side.
        reach_zoom: the largest ratio of the head's size to the crop's, and its inverse the smallest.
        settle: time constant in seconds: the crop corrects 63 % of the distance outside the dead zone.
    """

    def __init__(
        self,
        mode: Literal["fixed", "follow", "leash"] = "follow",
        *,
        crop: Crop | None = None,
        dead_zone: float = 0.05,
        dead_zoom: float = 1.08,
        reach: float = 0.12,
        reach_zoom: float = 1.25,
        settle: float = 0.4,
    ) -> None:
        self._mode = mode
        self._crop = crop
        self._dead_zone = dead_zone
        self._dead_zoom = float(np.log(dead_zoom))
        self._reach = reach
        self._reach_zoom = float(np.log(reach_zoom))
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
        elif self._mode == "leash":
            return self._leashed(self._crop, crop_of_pose(pose))
        return self._crop

    def _leashed(self, home: Crop, head: Crop) -> Crop:
        zoom = float(np.log(head.side / home.side))
        side = home.side * float(np.exp(_outside(zoom, self._reach_zoom)))
        offset = np.array([head.center_x - home.center_x, head.center_y - home.center_y])
        distance = float(np.hypot(*offset))
        if distance <= self._reach * side:
            return Crop(home.center_x, home.center_y, side)
        x, y = offset * (1 - self._reach * side / distance)
        return Crop(home.center_x + float(x), home.center_y + float(y), side)

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


def _outside(value: float, limit: float) -> float:
    """By how much a value lies outside [-limit, limit], with its sign."""
    return float(np.sign(value)) * max(abs(value) - limit, 0.0)


def _gain(cutoff: npt.ArrayLike, elapsed: float) -> Array:
    """Weight of the new sample in a first-order low-pass."""
    tau = 1 / (2 * np.pi * np.asarray(cutoff, np.float64))
    return 1 / (1 + tau / elapsed)
