"""Pictures of eyes and mouths alone, large enough to see what is painted there."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.faces.outlines import LEFT_EYE, LIPS, RIGHT_EYE
from megaportraits.media.images import UInt8

REGIONS = ("eyes", "mouth")
CELLS = {"eyes": (240, 96), "mouth": (200, 150)}
"""Width and height of a region's picture, pixels."""
_OUTLINES = {"eyes": (*RIGHT_EYE, *LEFT_EYE), "mouth": LIPS}
_MARGIN = 1.4

Boxes = npt.NDArray[np.float32]


def boxes_of(points: npt.NDArray[np.floating], side: float) -> Boxes:
    """Where eyes and mouth are in a square picture.

    Args:
        points: landmarks (478, 2 or more) in its pixels.
        side: of the picture, pixels.

    Returns:
        (2, 3) in the order of `REGIONS`: centre x, centre y and half the width, as parts of `side`.
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
    """A region of a picture (H, W, 3), as large as its cell.

    Args:
        picture: of width W, to which `box` refers.
        box: of `boxes_of`.
        region: one of `REGIONS`.
    """
    width, height = CELLS[region]
    x, y, half = (np.asarray(box, np.float64) * picture.shape[1]).tolist()
    scale = width / (2 * max(half, 1.0))
    # From pixel edges to OpenCV's pixel centres, on both sides.
    shift_x, shift_y = width / 2 - scale * x + 0.5 * (scale - 1), height / 2 - scale * y + 0.5 * (scale - 1)
    matrix = np.array([[scale, 0, shift_x], [0, scale, shift_y]])
    how = cv2.INTER_CUBIC if scale >= 1 else cv2.INTER_AREA
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
