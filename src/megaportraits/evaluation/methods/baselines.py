"""The baseline "aligned copy": the source photograph, moved rigidly with the driver's face."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import ShapeError
from megaportraits.faces.canonical import canonical_mesh
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import Crop
from megaportraits.ops.pictures import resize

Array = npt.NDArray[np.float64]

_SUPERSAMPLING = 4


def similarity_2d(source: npt.NDArray[np.floating], target: npt.NDArray[np.floating], weight: Array) -> Array:
    """Fit the similarity transform (2, 3) that maps points (n, 2) to others, by weighted least squares.

    It has scale, rotation and translation, but no reflection. In complex numbers this is the linear regression
    `t = a s + b`.
    """
    s = source[:, 0] + 1j * source[:, 1]
    t = target[:, 0] + 1j * target[:, 1]
    share = weight / weight.sum()
    s_mean, t_mean = share @ s, share @ t
    s, t = s - s_mean, t - t_mean
    a = (share * t) @ s.conj() / (share @ np.abs(s) ** 2)
    b = t_mean - a * s_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def aligned_copy(
    photo: UInt8,
    landmarks: npt.NDArray[np.floating],
    target: npt.NDArray[np.floating],
    crop: Crop,
    size: int,
) -> UInt8:
    """Align the source photograph with a driver frame's face by a similarity transform of the rigid landmarks.

    Args:
        photo: (H, W, 3), the source at its own size; its border pixels are repeated outside.
        landmarks: (478, 3), landmarks of the source face, in pixels of `photo`.
        target: (478, 3), landmarks of the driver frame's face, in pixels of the driver frame.
        crop: the head crop of the driver frame.
        size: side of the result, pixels.

    Returns:
        (size, size, 3) uint8, in the driver crop's coordinates.

    Raises:
        ShapeError: the landmarks have different shapes.
    """
    if landmarks.shape != target.shape or landmarks.ndim != 2:
        raise ShapeError(f"Expected two sets of landmarks (478, 3), got {landmarks.shape} and {target.shape}.")
    mesh = canonical_mesh()
    fine = size * _SUPERSAMPLING
    # The target's points in the supersampled result, in OpenCV's coordinates, where pixel centres are integers.
    wanted = (crop.image_to_crop(target[mesh.rigid, :2]) + 1) * (fine / 2) - 0.5
    matrix = similarity_2d(landmarks[mesh.rigid, :2] - 0.5, wanted, mesh.rigid_weights)
    large = cv2.warpAffine(photo, matrix, (fine, fine), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return resize(np.asarray(large, np.uint8), size)
