"""RT-GENE (Fischer et al., ECCV 2018) and RT-BENE (Cortacero et al., ICCVW 2019): the teachers of gaze and blink (B.5).

Their weights are not distributed with this project. A user gives them as ONNX files with the interface of the authors'
PyTorch modules; `docs/training.md` says how to export them.

Conventions. RT-GENE gives a direction as (theta, phi), radians, in axes x image right, y down, z away from the camera:

    (-cos(theta) sin(phi), -sin(theta), -cos(theta) cos(phi))

so +theta looks up and +phi to image left. Gaze is relative to the head: the labels come from glasses that the person
wore. Ours (`docs/conventions.md`) is yaw to image right and pitch down in degrees, also relative to the head: in our
axes (x image right, y up, z to the camera) (sin(yaw) cos(pitch), -sin(pitch), cos(yaw) cos(pitch)). The two are the
same vector for theta = -pitch and phi = -yaw.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.nn.vgg import MEAN, STD
from megaportraits.runtimes.model import OnnxModel

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[np.floating]
UInt8 = npt.NDArray[np.uint8]

EYE_SIZE = (60, 36)
"""Width and height of an eye's picture, pixels."""
SINGLE_OFFSET = 0.11
"""Radians that RT-GENE adds to phi where a single network is used rather than an ensemble."""
_RIGHT, _LEFT = (33, 133), (362, 263)
"""MediaPipe's landmarks of the corners of the subject's right and left eye, from image left to image right."""
_WIDE = 2.0
"""Width of an eye's picture in distances of its corners."""


def gaze_from_rt_gene(angles: Array) -> Floats:
    """RT-GENE's (..., 2) theta and phi, radians, to yaw and pitch relative to the head, degrees."""
    return np.degrees(-np.asarray(angles, np.float64)[..., ::-1]).astype(np.float32)


def head_to_rt_gene(rotation: Array) -> Floats:
    """A head's rotation (..., 3, 3), `docs/conventions.md`, as RT-GENE's head pose (..., 2): theta and phi, radians.

    They are the direction of the face relative to the camera. Roll is not included, because `eye_pictures` makes the
    eyes level.
    """
    forward = np.asarray(rotation, np.float64)[..., :, 2]
    theta = np.arcsin(np.clip(forward[..., 1], -1, 1))
    return np.stack([theta, np.arctan2(-forward[..., 0], forward[..., 2])], -1).astype(np.float32)


def eye_pictures(image: UInt8, landmarks: Array, size: tuple[int, int] = EYE_SIZE) -> tuple[UInt8, UInt8]:
    """Pictures of the subject's left and right eye, the input of RT-GENE.

    The face is rotated so that the eyes are level. An eye's picture is twice as wide as the eye, and 36 / 60 as high.

    Args:
        image: (S, S, 3) uint8, a head crop.
        landmarks: (478, 2), crop units.
        size: width and height of the pictures, pixels.
    """
    points = (np.asarray(landmarks, np.float64)[:, :2] + 1) * (image.shape[0] / 2)
    middles = [points[list(corners)].mean(0) for corners in (_RIGHT, _LEFT)]
    across = middles[1] - middles[0]
    across = across / max(float(np.linalg.norm(across)), 1e-9)
    down = np.array([-across[1], across[0]])
    return _eye(image, points[list(_LEFT)], across, down, size), _eye(image, points[list(_RIGHT)], across, down, size)


def _eye(image: UInt8, corners: Array, across: Array, down: Array, size: tuple[int, int]) -> UInt8:
    width = _WIDE * max(float((corners[1] - corners[0]) @ across), 1.0)
    height = width * EYE_SIZE[1] / EYE_SIZE[0]
    step_x, step_y = across * (width / size[0]), down * (height / size[1])
    first = corners.mean(0) - across * (width / 2) - down * (height / 2)
    # From pixel edges to OpenCV's pixel centres.
    offset = first + (step_x + step_y) / 2 - 0.5
    matrix = np.column_stack([step_x, step_y, offset])
    how, factor = cv2.INTER_CUBIC, width / size[0]
    if factor > 1.5:  # average first: cubic sampling would skip pixels, which gives noise
        image, how = cv2.GaussianBlur(image, (0, 0), 0.45 * float(np.sqrt(factor**2 - 1))), cv2.INTER_LINEAR
    flags = how | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _tensor(eyes: Sequence[UInt8]) -> Floats:
    """Pictures with ImageNet's normalization, (N, 3, h, w)."""
    pixels = np.stack(eyes).astype(np.float32) / 255
    normal = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.asarray(normal.transpose(0, 3, 1, 2), np.float32)


def _size(model: OnnxModel) -> tuple[int, int]:
    """Width and height of the eye pictures that a network takes."""
    height, width = model.inputs[0][1:]
    return width or EYE_SIZE[0], height or EYE_SIZE[1]


class GazeTeacher:
    """RT-GENE, one network or an ensemble.

    Args:
        paths: ONNX files with the inputs left eye (N, 3, h, w), right eye (N, 3, h, w) and head pose (N, 2), and the
            output (N, 2), theta and phi. The file can fix h and w; otherwise they are 36 and 60.
        offset: radians that are added to phi; None: RT-GENE's own values, 0.11 for one network, 0 for several.
        threads: threads for each network.

    Raises:
        MissingPackageError, WeightsError: see `OnnxModel`.
    """

    def __init__(self, paths: Sequence[Path], *, offset: float | None = None, threads: int = 1) -> None:
        shapes = [(3, None, None), (3, None, None), (2,)]
        self._models = [OnnxModel(path, inputs=shapes, output=(2,), what="RT-GENE", threads=threads) for path in paths]
        self.offset = offset if offset is not None else SINGLE_OFFSET if len(paths) == 1 else 0.0

    def __call__(self, images: Sequence[UInt8], landmarks: Sequence[Array], rotations: Sequence[Array]) -> Floats:
        """Gaze (N, 2) of head crops: yaw and pitch relative to the head, degrees."""
        head = head_to_rt_gene(np.stack(rotations))
        answers = []
        for model in self._models:
            pairs = [eye_pictures(i, points, _size(model)) for i, points in zip(images, landmarks, strict=True)]
            answers.append(model([_tensor([left for left, _ in pairs]), _tensor([right for _, right in pairs]), head]))
        mean = np.mean(answers, axis=0) + np.array([0.0, self.offset])
        return gaze_from_rt_gene(mean)


class BlinkTeacher:
    """RT-BENE, one network or an ensemble.

    Args:
        paths: ONNX files with the inputs left eye and right eye, each (N, 3, h, w), and the output (N, 1), the logit of
            the probability that the eyes are closed.
        threads: threads for each network.

    Raises:
        MissingPackageError, WeightsError: see `OnnxModel`.
    """

    def __init__(self, paths: Sequence[Path], *, threads: int = 1) -> None:
        shapes = [(3, None, None), (3, None, None)]
        self._models = [OnnxModel(path, inputs=shapes, output=(1,), what="RT-BENE", threads=threads) for path in paths]

    def __call__(self, images: Sequence[UInt8], landmarks: Sequence[Array]) -> Floats:
        """Blink (N,) of head crops: 0 open to 1 closed, the mean of the networks' probabilities."""
        answers = []
        for model in self._models:
            pairs = [eye_pictures(i, points, _size(model)) for i, points in zip(images, landmarks, strict=True)]
            logits = model([_tensor([left for left, _ in pairs]), _tensor([right for _, right in pairs])])[:, 0]
            answers.append(1 / (1 + np.exp(-logits.astype(np.float64))))
        return np.mean(answers, axis=0).astype(np.float32)
