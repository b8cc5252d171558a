"""Group photographs: assign pixels of a matte to people who touch or overlap."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.faces.detector import Box, Face
from megaportraits.faces.landmarks import MESH_COUNT
from megaportraits.ops.geometry import Crop

ShareMap = npt.NDArray[np.float32]

_HAIR, _TRUNK = 0.35, 3.0
"""Extent of a person above and below the face, in face heights."""
_SOFT = 0.08
"""Width of the transition between two people, in face heights."""


def share_of(face: Face, others: Sequence[Face], crop: Crop, size: int) -> ShareMap:
    """The share of each pixel of a crop that belongs to this person and not to a neighbour.

    A person is modelled as a vertical line from the hair to the trunk, which ends above a face in front of it. A pixel
    belongs to the nearest line, measured in heights of that person's face. Pixels of a face always belong to its own
    person.

    Args:
        face: the person's.
        others: all other faces of the picture.
        crop: the window of the picture.
        size: side of the result, pixels.

    Returns:
        (size, size) float32 in [0, 1]; ones where there are no others.
    """
    share = np.ones((size, size), np.float32)
    if not others:
        return share
    axis = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float64)
    x = axis[None, :] * (crop.side / 2) + crop.center_x
    y = axis[:, None] * (crop.side / 2) + crop.center_y
    own = _distance(face, others, x, y)
    nearest = np.min([_distance(other, [face, *(o for o in others if o is not other)], x, y) for other in others], 0)
    share = np.clip((nearest - own) / _SOFT + 0.5, 0, 1).astype(np.float32)
    for somebody, value in (*((other, 0.0) for other in others), (face, 1.0)):
        points = (crop.image_to_crop(somebody.landmarks[:MESH_COUNT, :2]) + 1) * (size / 2)
        cv2.fillConvexPoly(share, cv2.convexHull(np.rint(points).astype(np.int32)), value)
    return cv2.GaussianBlur(share, (0, 0), max(size / 200, 0.5)).astype(np.float32)


def _distance(
    face: Face, others: Sequence[Face], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Distance of pixels from a person's line, in face heights."""
    left, top, right, bottom = _sides(face.box)
    height = bottom - top
    low = bottom + _TRUNK * height
    for other in others:
        other_left, other_top, other_right, other_bottom = _sides(other.box)
        overlaps = other_left < right and left < other_right
        if overlaps and other_top + other_bottom > top + bottom:  # lower in the picture: it is in front
            low = min(low, other_top - _HAIR * (other_bottom - other_top))
    low = max(low, bottom)
    down = np.maximum(np.maximum(top - _HAIR * height - y, y - low), 0)
    return np.hypot((x - (left + right) / 2) / height, down / height)


def _sides(box: Box) -> tuple[float, float, float, float]:
    left, top, right, bottom = map(float, box)
    return left, top, right, max(bottom, top + 1)
