"""What a face does, as a few numbers a frame, free of its size and place: read from the 478 landmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from megaportraits.faces.detector import Face
from megaportraits.faces.pose import fit_pose
from megaportraits.ops.geometry import matrix_to_euler

NETWORK = "mediapipe478"
"""Name of the landmark network in metric names: another network would give other numbers."""

SIGNALS: dict[str, tuple[str, float]] = {
    "lip_gap": ("cm", 0.05),
    "eye_opening": ("cm", 0.04),
    "eye_opening_left": ("cm", 0.04),
    "eye_opening_right": ("cm", 0.04),
    "yaw": ("degrees", 1.0),
    "pitch": ("degrees", 1.0),
    "roll": ("degrees", 1.0),
}
"""Each signal's unit and the smallest standard deviation that is motion, not the network's jitter."""

_LIPS = ((13,), (14,))
_RIGHT_EYE = ((160, 159, 158), (144, 145, 153))
_LEFT_EYE = ((385, 386, 387), (380, 374, 373))


def motion_signals(face: Face) -> npt.NDArray[np.float64]:
    """The signals of `SIGNALS`, in that order, (7,).

    Openings are vertical distances along the head's own axis in centimetres of the canonical head, so that
    neither the size of the picture nor a turn of the head changes them. Left and right are the subject's.
    """
    pose = fit_pose(face.landmarks)
    up = pose.rotation[:, 1]
    # The height of every landmark in the head, centimetres; image axes are y down and z away.
    height = face.landmarks.astype(np.float64) * (1, -1, -1) @ up / pose.px_per_cm

    def opening(lids: tuple[tuple[int, ...], tuple[int, ...]]) -> float:
        return float(np.mean(height[list(lids[0])] - height[list(lids[1])]))

    left, right = opening(_LEFT_EYE), opening(_RIGHT_EYE)
    yaw, pitch, roll = matrix_to_euler(pose.rotation)
    return np.array([opening(_LIPS), (left + right) / 2, left, right, yaw, pitch, roll], np.float64)


def signals_of(faces: Sequence[Face | None]) -> npt.NDArray[np.float64]:
    """The signals of a clip (n, 7); a row of NaN where no face was found."""
    unknown = np.full(len(SIGNALS), np.nan)
    return np.array([unknown if face is None else motion_signals(face) for face in faces]).reshape(-1, len(SIGNALS))
