"""Who it is: SFace's embedding (Zhong et al., 2021; OpenCV Zoo, Apache-2.0) under OpenCV's own network runtime.

For measuring and for sorting data only. What measures must not be what trains, so no loss uses it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits import weights
from megaportraits.errors import ShapeError
from megaportraits.faces.landmarks import COUNT, LEFT_IRIS, RIGHT_IRIS
from megaportraits.faces.networks import Image, check_image

SIZE = 128
"""Numbers in an embedding."""
SAME_PERSON = 0.363
"""Cosine from which two pictures show one person, OpenCV Zoo's threshold (its LFW protocol)."""
_INPUT = 112
_NOSE, _MOUTH_RIGHT, _MOUTH_LEFT = 1, 61, 291
_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""ArcFace's five points, pixel centres of a 112 px picture: eyes, nose, mouth corners; image left first."""

Embedding = npt.NDArray[np.float32]


class FaceEmbedder:
    """Faces to unit vectors whose scalar product tells one person from another. Not for two threads at once."""

    def __init__(self) -> None:
        self._network = cv2.dnn.readNetFromONNX(str(weights.fetch("sface")))

    def embed(self, image: Image, landmarks: npt.NDArray[np.floating]) -> Embedding:
        """The embedding (128,) float32, length 1, of the face with landmarks (478, 2 or more) in image pixels.

        Raises:
            ShapeError: the image is not uint8 (H, W, 3), or these are no landmarks.
        """
        aligned = align(image, landmarks).astype(np.float32)
        self._network.setInput(np.ascontiguousarray(aligned.transpose(2, 0, 1)[None]), "data")
        vector = np.asarray(self._network.forward(), np.float32).reshape(SIZE)
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)


def align(image: Image, landmarks: npt.NDArray[np.floating]) -> Image:
    """The face in ArcFace's template, uint8 (112, 112, 3): eyes level, nose and mouth where the network expects them.

    Raises:
        ShapeError: as `FaceEmbedder.embed`.
    """
    check_image(image)
    if landmarks.ndim != 2 or landmarks.shape[0] != COUNT or landmarks.shape[1] < 2:
        raise ShapeError(f"Expected landmarks ({COUNT}, 2 or 3) in pixels, got {landmarks.shape}.")
    points = np.asarray(landmarks[[RIGHT_IRIS, LEFT_IRIS, _NOSE, _MOUTH_RIGHT, _MOUTH_LEFT], :2], np.float64)
    matrix = _similarity(points - 0.5, _TEMPLATE)  # from pixel edges to OpenCV's centres
    shrink = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if shrink < 0.5:
        # Large faces are averaged down first: bilinear sampling of every tenth pixel is noise, not a face.
        image, matrix = _smaller(image, points, 1 / shrink)
    return cv2.warpAffine(image, matrix, (_INPUT, _INPUT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _smaller(image: Image, points: npt.NDArray[np.float64], factor: float) -> tuple[Image, npt.NDArray[np.float64]]:
    height, width = image.shape[:2]
    size = max(round(width / factor), 1), max(round(height / factor), 1)
    scale = np.array([size[0] / width, size[1] / height])
    reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return reduced, _similarity(points * scale - 0.5, _TEMPLATE)


def _similarity(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The (2, 3) turn, zoom and shift that brings points (n, 2) closest to others, least squares."""
    a, b = source - source.mean(0), target - target.mean(0)
    power = max(float((a * a).sum()), 1e-9)
    cosine, sine = float((a * b).sum()) / power, float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / power
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, target.mean(0) - linear @ source.mean(0)])
