"""Estimate blendshapes of a rendered frame by the landmark network, as for driver frames at inference."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.landmarks import MEASURED_SIZE
from megaportraits.synth.stage import Rendering

_BEHIND = 128
"""Grey level behind the people."""


class Scorer:
    """Estimates blendshapes of frames; one per process."""

    def __init__(self) -> None:
        self._analyzer = FaceAnalyzer(reject_animals=False)

    def __call__(self, rendering: Rendering) -> npt.NDArray[np.float32] | None:
        """(52,) blendshapes in [0, 1], in the order of `faces.landmarks.BLENDSHAPE_NAMES`; None if no face is found."""
        alpha = rendering.matte[..., None].astype(np.float32) / 255
        picture = np.rint(rendering.image * alpha + _BEHIND * (1 - alpha)).astype(np.uint8)
        if picture.shape[0] < MEASURED_SIZE:
            picture = np.asarray(
                cv2.resize(picture, (MEASURED_SIZE, MEASURED_SIZE), interpolation=cv2.INTER_CUBIC), np.uint8
            )
        face = next(iter(self._analyzer.detect(picture, thorough=False)), None)
        return None if face is None else np.clip(face.blendshapes, 0, 1)
