"""MediaPipe's networks under LiteRT, and their input crops.

All coordinates here follow `docs/conventions.md`: pixel edges are integers. A region of interest is a square
that may be rotated; `Region.to_image` is the only map from its crop to the image.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import ShapeError, WeightsError
from megaportraits.faces.quiet import without_native_info
from megaportraits.ops.pictures import resize

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def check_image(image: npt.NDArray[Any]) -> Image:
    """The image itself, when it is uint8 RGB (H, W, 3) with at least one pixel.

    Raises:
        ShapeError: any other array.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ShapeError(
            f"Expected an RGB image, uint8 (H, W, 3), got {image.dtype} {image.shape}.",
            fix="Read images with megaportraits.media.read_image, which gives this form.",
        )
    return image


class Network:
    """One tflite file. Not thread-safe: the interpreter owns its buffers.

    Args:
        model: the bytes of the file.
        threads: threads that LiteRT may use.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with without_native_info():  # "Created TensorFlow Lite XNNPACK delegate for CPU."
            self._interpreter = Interpreter(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    def __call__(self, tensor: npt.NDArray[np.floating]) -> list[npt.NDArray[np.float32]]:
        """Run on a float tensor of the network's input shape; copies of all outputs, in the file's order."""
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(tensor, np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def task_member(path: Path, member: str) -> bytes:
    """The bytes of one file of a MediaPipe `.task` bundle (a zip).

    Raises:
        WeightsError: the bundle is not a zip or does not hold the member.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            return bundle.read(member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(
            f"Expected a MediaPipe bundle with {member}, got {path} ({error}).",
            fix="Delete the file and run `megaportraits weights pull`.",
        ) from error


@dataclass(frozen=True)
class Region:
    """A square region of an image, rotated about its centre.

    Attributes:
        x: centre, image pixels (edge convention).
        y: centre, image pixels (edge convention).
        side: side length in image pixels.
        angle: radians; the crop's x axis points along (cos, sin) in the image, y down.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    def to_image(self, points: npt.NDArray[np.floating]) -> Floats:
        """Points (N, 2) in [0, 1] of the crop to image pixels (N, 2)."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[cosine, sine], [-sine, cosine]])
        return (np.asarray(points, np.float64) - 0.5) * self.side @ turn + (self.x, self.y)

    def extract(self, image: Image, size: int) -> Image:
        """The region as an upright crop (size, size, 3); black outside the image, antialiased when shrunk."""
        half = self.side * (abs(np.cos(self.angle)) + abs(np.sin(self.angle))) / 2
        height, width = image.shape[:2]
        left, top = max(int(self.x - half) - 2, 0), max(int(self.y - half) - 2, 0)
        right = min(int(self.x + half) + 3, width)
        bottom = min(int(self.y + half) + 3, height)
        if right <= left or bottom <= top:
            return np.zeros((size, size, 3), np.uint8)
        patch = image[top:bottom, left:right]
        # Downsample to about the crop's resolution first: bilinear sampling alone aliases beyond a factor of 2.
        shrink = max(self.side / size / 1.5, 1.0)
        if shrink > 1.2:
            small = (max(round(patch.shape[1] / shrink), 1), max(round(patch.shape[0] / shrink), 1))
            scale = np.array([small[0] / patch.shape[1], small[1] / patch.shape[0]])
            patch = resize(patch, small)
        else:
            scale = np.ones(2)
        corners = self.to_image(np.array([[0, 0], [1, 0], [0, 1]])) - (left, top)
        x_axis, y_axis = (corners[1:] - corners[0]) / size
        matrix = np.stack([x_axis, y_axis, corners[0]], axis=1) * scale[:, None]
        # From pixel edges to OpenCV's pixel centres.
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(patch, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT)
