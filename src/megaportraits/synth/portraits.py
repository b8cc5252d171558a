"""Read a portrait: picture, landmarks of its only face, and matte."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import FaceError, MediaError
from megaportraits.ops.geometry import HEAD_CROP_CM
from megaportraits.synth.lifted import CROP_CM

if TYPE_CHECKING:
    from megaportraits.faces.detector import Face
    from megaportraits.faces.matting import Matting

_ENOUGH_PX = 640.0  # side of a head crop; twice the lift's resolution


@dataclass(frozen=True)
class MattedPortrait:
    """A photograph ready for lifting.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        landmarks: (478, 3) float32, pixels.
        matte: (H, W) float32 in [0, 1].
    """

    image: npt.NDArray[np.uint8]
    landmarks: npt.NDArray[np.float32]
    matte: npt.NDArray[np.float32]


class PortraitReader:
    """Finds face and matte with the networks of `faces`; one per process."""

    def __init__(self) -> None:
        from megaportraits.faces.detector import FaceAnalyzer
        from megaportraits.faces.matting import Matting

        # No animal check: it would double the time, portraits show people, and an animal would not fit the head.
        self._analyzer = FaceAnalyzer(reject_animals=False)
        self._matting = Matting()

    def __call__(self, path: Path) -> MattedPortrait:
        """Read one portrait.

        Raises:
            FaceError: not readable, or not exactly one face; the message begins with the reason, up to a colon.
        """
        from megaportraits.media import read_image

        try:
            image = read_image(path)
        except MediaError as error:
            raise FaceError(f"not readable: {error.message}") from error
        try:
            faces = self._analyzer.detect(image)
        except FaceError as error:
            raise FaceError(f"no face: {error.message}") from error
        if not faces:
            raise FaceError(f"no face: in {path}")
        if len(faces) > 1 and faces[1].area > 0.25 * faces[0].area:
            raise FaceError(f"several faces: {len(faces)} in {path}")
        return matted(image, faces[0], self._matting)


def matted(image: npt.NDArray[np.uint8], face: Face, matting: Matting) -> MattedPortrait:
    """Downsample picture, landmarks and matte to the resolution that lifting needs."""
    from megaportraits.faces.crop import head_crop
    from megaportraits.ops.geometry import Crop

    crop = head_crop(face)
    shrink = min(1.0, _ENOUGH_PX / crop.side)
    if shrink < 1:
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        face = replace(face, box=face.box * shrink, landmarks=face.landmarks * shrink)
    side = round(crop.side * shrink * CROP_CM / HEAD_CROP_CM)
    window = Crop(crop.center_x * shrink, crop.center_y * shrink, float(side))
    alpha = matting.matte(image, face, window, side)
    height, width = image.shape[:2]
    matrix = np.array([[1, 0, window.corners[0]], [0, 1, window.corners[1]]])
    return MattedPortrait(image, face.landmarks, cv2.warpAffine(alpha, matrix, (width, height)))
