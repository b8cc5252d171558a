"""Reading a portrait: the picture, the landmarks of its one face, and the matte of the person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megaportraits.errors import FaceError, MediaError


@dataclass(frozen=True)
class Portrait:
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

        self._analyzer = FaceAnalyzer()
        self._matting = Matting()

    def __call__(self, path: Path) -> Portrait:
        """Read one portrait.

        Raises:
            FaceError: not readable, or no single face; the text begins with the reason, up to a colon.
        """
        from megaportraits.media import read_image

        try:
            image = read_image(path)
            faces = self._analyzer.detect(image)
        except MediaError as error:
            raise FaceError(f"not readable: {error.message}") from error
        except FaceError as error:
            raise FaceError(f"no face: {error.message}") from error
        if not faces:
            raise FaceError(f"no face: in {path}")
        if len(faces) > 1 and faces[1].area > 0.25 * faces[0].area:
            raise FaceError(f"several faces: {len(faces)} in {path}")
        return Portrait(image, faces[0].landmarks, self._matting(image, faces[0]))
