"""Face signals: a few numbers per frame from the 478 landmarks, independent of the face's size and position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from megaportraits.faces.detector import Face
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES, LEFT_IRIS, RIGHT_IRIS
from megaportraits.faces.pose import fit_pose
from megaportraits.ops.geometry import matrix_to_euler

NETWORK = "mediapipe478"
"""Name of the landmark network in metric names, because another network would give other numbers."""
BLENDSHAPE_NETWORK = "mediapipe52"

SIGNALS: dict[str, tuple[str, float]] = {
    "lip_gap": ("cm", 0.05),
    "eye_opening": ("cm", 0.04),
    "eye_opening_left": ("cm", 0.04),
    "eye_opening_right": ("cm", 0.04),
    "brow": ("cm", 0.05),
    "gaze_yaw": ("degrees", 1.5),
    "gaze_pitch": ("degrees", 1.5),
    "yaw": ("degrees", 1.0),
    "pitch": ("degrees", 1.0),
    "roll": ("degrees", 1.0),
}
"""Each signal's unit, and the smallest standard deviation that counts as motion and not as the network's jitter."""
BLENDSHAPES: tuple[str, ...] = BLENDSHAPE_NAMES[1:]
"""The blendshapes that are compared: the network's first output, `_neutral`, is always 0."""
LEAST_BLENDSHAPE = 0.03
"""The smallest standard deviation of a blendshape that counts as motion."""

_LIPS = ((13,), (14,))
_RIGHT_EYE = ((160, 159, 158), (144, 145, 153))
_LEFT_EYE = ((385, 386, 387), (380, 374, 373))
_RIGHT_BROW, _LEFT_BROW = (70, 63, 105, 66, 107), (300, 293, 334, 296, 336)
_RIGHT_CORNERS, _LEFT_CORNERS = (33, 133), (263, 362)
_EYEBALL_CM = 1.2
"""Radius of an eyeball: a rotation by 90 degrees would shift its iris by this distance."""


def motion_signals(face: Face) -> npt.NDArray[np.float64]:
    """The signals of `SIGNALS`, in that order, (10,).

    Openings and brows are distances along the head's own upward axis, in centimetres of the canonical head, so that
    they depend neither on the image size nor on the head pose. Gaze is relative to the head: the angle by which an
    eyeball must rotate to shift its iris from the midpoint of the eye's corners to its position. It is positive to the
    right of the image and downwards, like the head's yaw and pitch. Left and right are the subject's.
    """
    pose = fit_pose(face.landmarks)
    # Landmarks along the head's axes, in centimetres. Image axes have y down and z away from the camera.
    head = face.landmarks.astype(np.float64) * (1, -1, -1) @ pose.rotation / pose.px_per_cm
    across, height = head[:, 0], head[:, 1]

    def opening(lids: tuple[tuple[int, ...], tuple[int, ...]]) -> float:
        return float(np.mean(height[list(lids[0])]) - np.mean(height[list(lids[1])]))

    def off_center(axis: npt.NDArray[np.float64]) -> float:
        eyes = ((RIGHT_IRIS, _RIGHT_CORNERS), (LEFT_IRIS, _LEFT_CORNERS))
        shift = np.mean([axis[iris] - axis[list(corners)].mean() for iris, corners in eyes])
        return float(np.degrees(np.arcsin(np.clip(shift / _EYEBALL_CM, -1, 1))))

    left, right = opening(_LEFT_EYE), opening(_RIGHT_EYE)
    brow = (opening((_LEFT_BROW, _LEFT_CORNERS)) + opening((_RIGHT_BROW, _RIGHT_CORNERS))) / 2
    gaze = off_center(across), -off_center(height)
    euler = matrix_to_euler(pose.rotation)
    return np.array([opening(_LIPS), (left + right) / 2, left, right, brow, *gaze, *euler], np.float64)


def signals_of(faces: Sequence[Face | None]) -> npt.NDArray[np.float64]:
    """The signals of a clip, (n, 10); a row is NaN where no face was found."""
    unknown = np.full(len(SIGNALS), np.nan)
    return np.array([unknown if face is None else motion_signals(face) for face in faces]).reshape(-1, len(SIGNALS))


def blendshapes_of(faces: Sequence[Face | None]) -> npt.NDArray[np.float64]:
    """The blendshapes of a clip, (n, 51) in [0, 1], in the order of `BLENDSHAPES`; NaN where no face was found."""
    unknown = np.full(len(BLENDSHAPES), np.nan)
    rows = [unknown if face is None else face.blendshapes[1:].astype(np.float64) for face in faces]
    return np.array(rows).reshape(-1, len(BLENDSHAPES))
