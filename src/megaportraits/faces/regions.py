"""Masks of face, mouth and eyes in a head crop, from landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import ShapeError
from megaportraits.faces.landmarks import COUNT
from megaportraits.faces.outlines import FACE_OVAL, LEFT_EYE, LIPS, RIGHT_EYE

Mask = npt.NDArray[np.bool_]

_MOUTH_MARGIN = 0.2
_EYE_MARGIN = 0.35
"""Margins of the boxes, relative to their larger side, so that they contain the whole lids and lips."""
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Regions:
    """Boolean masks (size, size) of a head crop.

    Attributes:
        face: inside the outline of the face; neither hair nor ears nor background.
        mouth: a box around the lips.
        eyes: a box around each eye.
    """

    face: Mask
    mouth: Mask
    eyes: Mask

    def named(self) -> dict[str, Mask]:
        """The masks by the names that metrics use."""
        return {"face": self.face, "mouth": self.mouth, "eyes": self.eyes}


def face_regions(points: npt.NDArray[np.floating], size: int) -> Regions:
    """The regions of a face.

    Args:
        points: landmarks (478, 2 or more) in crop coordinates, -1 and 1 at the borders, y down.
        size: side of the crop in pixels.

    Raises:
        ShapeError: other landmarks.
    """
    if points.ndim != 2 or points.shape[0] != COUNT or points.shape[1] < 2:
        raise ShapeError(f"Expected landmarks ({COUNT}, 2) in crop coordinates, got {points.shape}.")
    pixels = (np.asarray(points[:, :2], np.float64) + 1) * (size / 2)
    eyes = box_mask(pixels[list(RIGHT_EYE)], size, _EYE_MARGIN) | box_mask(pixels[list(LEFT_EYE)], size, _EYE_MARGIN)
    return Regions(hull_mask(pixels[list(FACE_OVAL)], size), box_mask(pixels[list(LIPS)], size, _MOUTH_MARGIN), eyes)


def box_mask(pixels: npt.NDArray[np.floating], size: int, margin: float = 0.0) -> Mask:
    """The pixels whose centres lie in the bounding box of points (n, 2), widened by a part of its larger side."""
    low, high = pixels.min(0), pixels.max(0)
    reach = margin * float((high - low).max())
    centers = np.arange(size) + 0.5
    inside = (centers[:, None] >= low - reach) & (centers[:, None] <= high + reach)  # (size, 2): x, y
    return np.asarray(inside[None, :, 0] & inside[:, None, 1])


def hull_mask(pixels: npt.NDArray[np.floating], size: int) -> Mask:
    """The pixels in the convex hull of points (n, 2)."""
    # OpenCV's integers are pixel centres; ours are pixel edges.
    fixed = np.rint((pixels - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(canvas, cv2.convexHull(fixed), 1, shift=_SUBPIXEL_BITS)
    return canvas.astype(bool)
