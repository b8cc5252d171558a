"""A real portrait and the face networks, shared by the tests in this folder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

from megaportraits.errors import WeightsError
from megaportraits.faces.detector import Face, FaceAnalyzer

Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def portrait() -> Image:
    """A photograph of an astronaut, 512 x 512; her face lies at about (226, 125), 92 px wide."""
    image: Image = skimage.data.astronaut()
    return image


@pytest.fixture(scope="session")
def analyzer() -> FaceAnalyzer:
    try:
        return FaceAnalyzer()
    except WeightsError as error:
        pytest.skip(f"weights cannot be had: {error}")


@pytest.fixture(scope="session")
def face(analyzer: FaceAnalyzer, portrait: Image) -> Face:
    (found,) = analyzer.detect(portrait)
    return found
