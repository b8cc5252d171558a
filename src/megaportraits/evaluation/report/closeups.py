"""Enlarged crops of eyes and mouths for reports."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.faces.outlines import LEFT_EYE, LIPS, RIGHT_EYE
from megaportraits.media.images import UInt8

REGIONS = ("eyes", "mouth")
CELLS = {"eyes": (240, 96), "mouth": (200, 150)}
"""Width and height of each region's image, pixels."""
_OUTLINES = {"eyes": (*RIGHT_EYE, *LEFT_EYE), "mouth": LIPS}
_MARGIN = 1.4

Boxes = npt.NDArray[np.float32]


def boxes_of(points: npt.NDArray[np.floating], side: float) -> Boxes:
    """The boxes around eyes and mouth in a square image.

    Args:
        points: landmarks (478, 2 or more), in pixels of the image.
        side: side of the image, pixels.

    Returns:
        (2, 3) in the order of `REGIONS`: centre x, centre y and half of the width, as fractions of `side`.
    """
    rows = []
    for region in REGIONS:
        width, height = CELLS[region]
        outline = points[list(_OUTLINES[region]), :2]
        low, high = outline.min(0), outline.max(0)
        span = high - low
        half = _MARGIN / 2 * max(float(span[0]), float(span[1]) * width / height)
        rows.append([*((low + high) / 2), half])
    return np.asarray(np.array(rows) / side, np.float32)


def closeup(picture: UInt8, box: npt.NDArray[np.floating], region: str) -> UInt8:
    """Crop a region and resize it to its size in `CELLS`.

    Args:
        picture: (H, W, 3); `box` is in fractions of W.
        box: (3,), a row of `boxes_of`.
        region: one of `REGIONS`.
    """
    width, height = CELLS[region]
    x, y, half = (np.asarray(box, np.float64) * picture.shape[1]).tolist()
    scale = width / (2 * max(half, 1.0))
    # From our coordinates (pixel edges are integers) to OpenCV's (pixel centres are integers), for both images.
    shift_x, shift_y = width / 2 - scale * x + 0.5 * (scale - 1), height / 2 - scale * y + 0.5 * (scale - 1)
    matrix = np.array([[scale, 0, shift_x], [0, scale, shift_y]])
    how = cv2.INTER_CUBIC if scale >= 1 else cv2.INTER_AREA
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
