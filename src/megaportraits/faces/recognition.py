"""Face recognition by SFace (Zhong et al., 2021; OpenCV Zoo, Apache-2.0) or ArcFace (Deng et al., 2019).

For evaluation and for sorting data only. A metric network must not be a training loss, so no loss uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from megaportraits import weights
from megaportraits.errors import ShapeError, WeightsError
from megaportraits.faces.landmarks import COUNT, LEFT_IRIS, RIGHT_IRIS
from megaportraits.faces.networks import Image, check_image
from megaportraits.nn.iresnet import IResNet
from megaportraits.ops.pictures import resize

SIZE = 128
"""Length of an embedding."""
_INPUT = 112
_NOSE, _MOUTH_RIGHT, _MOUTH_LEFT = 1, 61, 291
_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""ArcFace's five points, pixel centres of a 112 px picture: eyes, nose, mouth corners; image left first."""

_ARCFACE = "Give ArcFace's recognition network, for example w600k_r50.onnx of InsightFace's buffalo_l."

Embedding = npt.NDArray[np.float32]
Batch = npt.NDArray[np.float32]


class FaceEmbedder:
    """Maps faces to unit vectors whose scalar product measures the similarity of two people. Not thread-safe.

    Args:
        network: aligned face, RGB (1, 3, 112, 112) float32 in [0, 255], to its embedding of any length; None: SFace.
    """

    def __init__(self, network: Callable[[Batch], npt.NDArray[np.float32]] | None = None) -> None:
        self._network = network or _onnx(weights.fetch("sface"), "data")

    @classmethod
    def arcface(cls, path: Path, device: torch.device | str = "cpu") -> FaceEmbedder:
        """ArcFace from a user's file: 512 numbers.

        Args:
            path: `backbone.pth` of InsightFace's arcface_torch, or a network as .onnx, which runs on the CPU.
            device: where a .pth runs.

        Raises:
            WeightsError: the file is missing, or is no such network.
        """
        if not path.is_file():
            raise WeightsError(f"the ArcFace weights {path} do not exist", fix="Check --arcface.")
        if path.suffix.lower() != ".onnx":
            network = IResNet.from_file(path).to(device)

            def embed(batch: Batch) -> npt.NDArray[np.float32]:
                with torch.inference_mode():
                    return network(torch.from_numpy(_symmetric(batch)).to(device)).cpu().numpy()

            return cls(embed)
        graph = _onnx(path)
        try:  # what is no such network shows on its first face
            vector = graph(np.zeros((1, 3, _INPUT, _INPUT), np.float32))
        except cv2.error as error:
            raise WeightsError(f"{path} does not take faces of 112 px: {error.err}", fix=_ARCFACE) from error
        if vector.size < SIZE:
            raise WeightsError(f"{path} gives {vector.size} numbers, expected an embedding", fix=_ARCFACE)
        return cls(lambda batch: graph(_symmetric(batch)))

    def embed(self, image: Image, landmarks: npt.NDArray[np.floating]) -> Embedding:
        """The embedding (n,) float32, length 1, of the face with landmarks (478, 2 or more) in image pixels.

        SFace's has `SIZE` numbers.

        Raises:
            ShapeError: the image is not uint8 (H, W, 3), or the landmarks have another shape.
        """
        aligned = align(image, landmarks).astype(np.float32)
        vector = self._network(np.ascontiguousarray(aligned.transpose(2, 0, 1)[None])).reshape(-1)
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)


def _onnx(path: Path, name: str = "") -> Callable[[Batch], npt.NDArray[np.float32]]:
    """A graph under OpenCV's network runtime; `name` is that of its input, which graphs with one input do not need.

    Raises:
        WeightsError: the file is no ONNX graph.
    """
    try:
        network = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        raise WeightsError(f"{path} is not a readable .onnx file: {error.err}", fix=_ARCFACE) from error

    def run(batch: Batch) -> npt.NDArray[np.float32]:
        network.setInput(batch, name)
        return np.asarray(network.forward(), np.float32)

    return run


def _symmetric(batch: Batch) -> Batch:
    """ArcFace's input range: [0, 255] to [-1, 1]."""
    return np.asarray(batch / 127.5 - 1, np.float32)


def align(image: Image, landmarks: npt.NDArray[np.floating]) -> Image:
    """The face aligned to ArcFace's template, uint8 (112, 112, 3).

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
        # Large faces are downsampled first: bilinear sampling of every tenth pixel would alias.
        image, matrix = _smaller(image, points, 1 / shrink)
    return cv2.warpAffine(image, matrix, (_INPUT, _INPUT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _smaller(image: Image, points: npt.NDArray[np.float64], factor: float) -> tuple[Image, npt.NDArray[np.float64]]:
    height, width = image.shape[:2]
    size = max(round(width / factor), 1), max(round(height / factor), 1)
    scale = np.array([size[0] / width, size[1] / height])
    reduced = resize(image, size)
    return reduced, _similarity(points * scale - 0.5, _TEMPLATE)


def _similarity(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The (2, 3) rotation, scale and translation that maps points (n, 2) to others, least squares."""
    a, b = source - source.mean(0), target - target.mean(0)
    power = max(float((a * a).sum()), 1e-9)
    cosine, sine = float((a * b).sum()) / power, float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / power
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, target.mean(0) - linear @ source.mean(0)])
