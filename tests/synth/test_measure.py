"""Landmarks and blendshapes that are estimated from a rendered frame."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import skimage.data

from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.synth.measure import Scorer


def test_a_face_is_measured_as_in_a_photograph_and_an_empty_frame_is_not() -> None:
    photo = np.ascontiguousarray(skimage.data.astronaut()[:256, 98:354])
    small = cv2.resize(photo, (128, 128), interpolation=cv2.INTER_AREA)
    scorer = Scorer()
    found = scorer(SimpleNamespace(image=small, matte=np.full((128, 128), 255, np.uint8)))  # type: ignore[arg-type]
    (face,) = FaceAnalyzer().detect(photo)
    assert found is not None
    assert np.corrcoef(found.blendshapes, face.blendshapes)[0, 1] > 0.95
    # crop units: 128 px are one; half a pixel of the small picture
    assert np.abs(found.landmarks - (face.landmarks[:, :2] / 128 - 1)).mean() < 0.5 / 64
    assert scorer(SimpleNamespace(image=small, matte=np.zeros((128, 128), np.uint8))) is None  # type: ignore[arg-type]
