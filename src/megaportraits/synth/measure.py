"""Estimate blendshapes of a rendered frame by the landmark network, as for driver frames at inference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.landmarks import MEASURED_SIZE
from megaportraits.ops.pictures import composite, resize
from megaportraits.synth.stage import SynthFrame

_BEHIND = 128
"""Grey level behind the people."""


@dataclass(frozen=True)
class Measurement:
    """Estimates of the landmark network for one frame.

    Attributes:
        blendshapes: (52,) in [0, 1], in the order of `faces.landmarks.BLENDSHAPE_NAMES`.
        landmarks: (478, 2), crop units.
    """

    blendshapes: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]


class Scorer:
    """Measures frames; one per process."""

    def __init__(self) -> None:
        self._analyzer = FaceAnalyzer(reject_animals=False)

    def __call__(self, rendering: SynthFrame) -> Measurement | None:
        """The estimates for a frame; None if no face is detected."""
        picture = composite(rendering.image, rendering.matte, _BEHIND)
        picture = resize(picture, max(picture.shape[0], MEASURED_SIZE))
        face = next(iter(self._analyzer.detect(picture, thorough=False)), None)
        if face is None:
            return None
        landmarks = face.landmarks[:, :2] * (2 / picture.shape[0]) - 1
        return Measurement(np.clip(face.blendshapes, 0, 1), landmarks.astype(np.float32))
