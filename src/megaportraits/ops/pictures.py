"""Numpy pictures: resizing, compositing, and the PSNR of an error."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

T = TypeVar("T", bound=np.generic)
UInt8 = npt.NDArray[np.uint8]


def resize(picture: npt.NDArray[T], size: int | tuple[int, int], *, enlarge: int = cv2.INTER_CUBIC) -> npt.NDArray[T]:
    """Resize by area averaging if a side shrinks, otherwise by `enlarge`.

    Args:
        picture: (H, W) or (H, W, C), uint8 or float32; float pictures may overshoot their range when enlarged.
        size: (width, height), or the side of a square.
        enlarge: OpenCV's interpolation for enlarging.

    Returns:
        (height, width) or (height, width, C); the picture itself, not a copy, if it has that size.
    """
    width, height = (size, size) if isinstance(size, int) else size
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = width < picture.shape[1] or height < picture.shape[0]
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else enlarge)
    return np.asarray(resized, picture.dtype)


def resize_planes(planes: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Resize an image in a network's layout as `resize` does: (1, C, n, n) to (1, C, size, size), clamped to [0, 1]."""
    resized = resize(np.ascontiguousarray(planes[0].transpose(1, 2, 0)), size)
    return np.ascontiguousarray(np.clip(resized, 0, 1).transpose(2, 0, 1)[None])


def composite(picture: UInt8, matte: npt.NDArray[Any], background: Any) -> UInt8:
    """Composite a picture with straight colours over a background.

    Args:
        picture: (H, W, 3).
        matte: (H, W), uint8 or float in [0, 1].
        background: colours, 0-255, that are, or broadcast to, (H, W, 3).
    """
    alpha = matte[..., None].astype(np.float32) / 255 if matte.dtype == np.uint8 else matte[..., None]
    under = background if isinstance(background, np.ndarray) else np.asarray(background, np.float32)
    return np.rint(picture * alpha + under * (1 - alpha)).astype(np.uint8)


def over(premultiplied: npt.NDArray[np.float32], background: npt.NDArray[np.generic]) -> UInt8:
    """Composite a premultiplied (H, W, 4) picture in [0, 1] over a background.

    Args:
        premultiplied: colours times alpha, and alpha.
        background: colours, 0-255, that are, or broadcast to, (H, W, 3).
    """
    under = background.astype(np.float32) * (1 - premultiplied[..., 3:])
    return np.rint(np.clip(premultiplied[..., :3] * 255 + under, 0, 255)).astype(np.uint8)


def psnr_of(error: float, *, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in decibels of a mean squared error; infinite for 0.

    Args:
        error: the mean squared error.
        peak: the largest possible value.
    """
    return math.inf if error == 0 else 10 * math.log10(peak * peak / error)
