"""The head crop: a square, upright window of an image, 32 cm wide at the head's scale (conventions.md)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import ShapeError
from megaportraits.faces.detector import Face
from megaportraits.faces.networks import Image, check_image
from megaportraits.faces.pose import FacePose, fit_pose
from megaportraits.ops.geometry import HEAD_CENTER, HEAD_CROP_CM, Crop
from megaportraits.ops.pictures import resize

Array = npt.NDArray[np.float64]


def crop_of_pose(pose: FacePose) -> Crop:
    """The standard head crop of a pose: 32 cm wide, centred on the projection of the head's centre."""
    center = pose.project(np.array([HEAD_CENTER]))[0]
    return Crop(float(center[0]), float(center[1]), HEAD_CROP_CM * pose.px_per_cm)


def head_crop(face: Face) -> Crop:
    """The standard head crop of a face."""
    return crop_of_pose(fit_pose(face.landmarks))


def extract(image: Image, crop: Crop, size: int) -> Image:
    """Resample a crop to (size, size, 3) uint8: averaged when it shrinks, cubic when it grows.

    Outside the image the border pixels are repeated.

    Raises:
        ShapeError: the image is not uint8 (H, W, 3), or size is not positive.
    """
    check_image(image)
    if size < 1:
        raise ShapeError(f"Expected a positive crop size, got {size}.")
    return _resample(image, crop.corners, (size, size))


def paste(image: Image, patch: Image, crop: Crop, matte: npt.NDArray[np.floating]) -> Image:
    """Composite a patch over the image at the place of a crop.

    Args:
        image: uint8 (H, W, 3); it is not changed.
        patch: uint8 (n, n, 3), straight colours.
        crop: where the patch goes; parts outside the image are dropped.
        matte: (n, n) in [0, 1], the patch's alpha.

    Returns:
        A new uint8 (H, W, 3).

    Raises:
        ShapeError: patch and matte are not squares of one size.
    """
    check_image(image)
    size = patch.shape[0]
    if patch.shape != (size, size, 3) or matte.shape != (size, size):
        raise ShapeError(f"Expected a square patch and its matte, got {patch.shape} and {matte.shape}.")
    height, width = image.shape[:2]
    left, top, right, bottom = crop.corners
    x0, y0 = max(int(np.floor(left)), 0), max(int(np.floor(top)), 0)
    x1, y1 = min(int(np.ceil(right)), width), min(int(np.ceil(bottom)), height)
    result = image.copy()
    if x1 <= x0 or y1 <= y0:
        return result
    # The image's pixel grid in pixels of the patch; a ring of zeros around the matte lets it end there.
    scale = size / crop.side
    window = ((x0 - left) * scale, (y0 - top) * scale, (x1 - left) * scale, (y1 - top) * scale)
    ringed = np.pad(matte.astype(np.float32), 1)
    alpha = _resample(ringed, tuple(edge + 1 for edge in window), (x1 - x0, y1 - y0))
    alpha = np.clip(alpha, 0, 1)[..., None]
    color = _resample(patch, window, (x1 - x0, y1 - y0)).astype(np.float32)
    under = result[y0:y1, x0:x1].astype(np.float32)
    result[y0:y1, x0:x1] = np.rint(under + alpha * (color - under)).astype(np.uint8)
    return result


def _resample(image: npt.NDArray, window: tuple[float, ...], size: tuple[int, int]) -> npt.NDArray:
    """A window (left, top, right, bottom; pixel edges) of an image at another size (width, height)."""
    columns, start_x, reduce_x, step_x = _axis(window[0], window[2], size[0], image.shape[1])
    rows, start_y, reduce_y, step_y = _axis(window[1], window[3], size[1], image.shape[0])
    patch = image.take(rows, axis=0).take(columns, axis=1)
    if reduce_x > 1 or reduce_y > 1:
        cells = (len(columns) // reduce_x, len(rows) // reduce_y)
        patch = resize(patch, cells)
    blur = [0.45 * np.sqrt(max(step * step - 1, 0)) for step in (step_x, step_y)]
    if max(blur) > 0.2:
        patch = cv2.GaussianBlur(patch, (0, 0), max(blur[0], 0.1), sigmaY=max(blur[1], 0.1))
    # From edges to OpenCV's pixel centres.
    matrix = np.array([[step_x, 0, start_x + step_x / 2 - 0.5], [0, step_y, start_y + step_y / 2 - 0.5]])
    flags = (cv2.INTER_CUBIC if max(step_x, step_y) <= 1 else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(patch, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _axis(low: float, high: float, size: int, limit: int) -> tuple[npt.NDArray[np.intp], float, int, float]:
    """One axis of `_resample`.

    Returns:
        The source indices to read (repeated at the border), where the window starts among them in cells, how
        many pixels make a cell, and how many cells the window advances per output pixel.
    """
    step = (high - low) / size
    # A whole step is a plain mean of cells; other steps keep enough samples for the low-pass that follows.
    reduce = max(int(step) if step == int(step) else int(step / 2), 1)
    first = int(np.floor(low)) - 3 * reduce
    count = int(np.ceil((high - first) / reduce)) + 3
    indices = np.clip(np.arange(first, first + count * reduce), 0, limit - 1)
    return indices, (low - first) / reduce, reduce, step / reduce
