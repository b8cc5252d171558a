"""Animators with known results: one copies its driver, one never moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from megaportraits.evaluation.metrics.metric_networks import MetricNetworks
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.samples import EvaluationSample, best_source_frame, read_sample
from megaportraits.faces import FaceAnalyzer, extract, head_crop
from megaportraits.faces.detector import Blendshapes
from megaportraits.faces.matting import Matting
from megaportraits.media import VideoReader, VideoWriter
from megaportraits.ops.geometry import HeadPose

DRIVER = Path(__file__).parents[2] / "src/megaportraits/assets/demo/driver.mp4"
SIZE = 128


@dataclass
class Opaque:
    premultiplied: np.ndarray


def opaque(picture: np.ndarray) -> Opaque:
    alpha = np.ones((*picture.shape[:2], 1), np.float32)
    return Opaque(np.concatenate([picture.astype(np.float32) / 255, alpha], axis=2))


class Perfect:
    """Answers every driver crop with that crop."""

    def encode(self, source: np.ndarray, /) -> None:
        return None

    def drive(
        self, portrait: None, driver: np.ndarray, /, *, pose: HeadPose | None, blendshapes: Blendshapes | None
    ) -> Opaque:
        return opaque(driver)


class Frozen:
    """Answers every driver with the source's own head crop."""

    def __init__(self, analyzer: FaceAnalyzer) -> None:
        self._analyzer = analyzer

    def encode(self, source: np.ndarray, /) -> np.ndarray:
        return extract(source, head_crop(self._analyzer.require(source)[0]), SIZE)

    def drive(
        self, portrait: np.ndarray, driver: np.ndarray, /, *, pose: HeadPose | None, blendshapes: Blendshapes | None
    ) -> Opaque:
        return opaque(portrait)


class Nothing:
    """Answers every driver with air."""

    def encode(self, source: np.ndarray, /) -> None:
        return None

    def drive(
        self, portrait: None, driver: np.ndarray, /, *, pose: HeadPose | None, blendshapes: Blendshapes | None
    ) -> Opaque:
        return Opaque(np.zeros((SIZE, SIZE, 4), np.float32))


@pytest.fixture(scope="session")
def analyzer() -> FaceAnalyzer:
    return FaceAnalyzer(reject_animals=False)


@pytest.fixture(scope="session")
def matting() -> Matting:
    return Matting()


@pytest.fixture(scope="session")
def networks() -> MetricNetworks:
    return MetricNetworks()


@pytest.fixture(scope="session")
def talking() -> Path:
    """The demo's driver: a rendered head that talks, blinks and turns."""
    return DRIVER


@pytest.fixture(scope="session")
def pair(talking: Path, analyzer: FaceAnalyzer) -> Pair:
    """The talking head, driven by twelve further frames of itself."""
    return Pair("talking", "self", talking, best_source_frame(talking, analyzer), talking, step=4, frames=12)


@pytest.fixture(scope="session")
def sample(pair: Pair, analyzer: FaceAnalyzer, matting: Matting) -> EvaluationSample:
    return read_sample(pair, analyzer, matting, SIZE)


@pytest.fixture(scope="session")
def short(sample: EvaluationSample) -> EvaluationSample:
    """Its first three drivers."""
    return replace(sample, frames=sample.frames[:3])


@pytest.fixture(scope="session")
def empty_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A video of a wall."""
    path = tmp_path_factory.mktemp("clips") / "wall.mp4"
    with VideoWriter(path) as writer:
        for _ in range(4):
            writer.write(np.full((96, 128, 3), 90, np.uint8))
    yield path


@pytest.fixture(scope="session")
def turned_away(talking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of the talking head of which the third and the last two show only its blurred wall."""
    path = tmp_path_factory.mktemp("clips") / "away.mp4"
    frames = [frame.image for frame, _ in zip(VideoReader(talking), range(12), strict=False)]
    with VideoWriter(path) as writer:
        for number, frame in enumerate(frames):
            writer.write(cv2.blur(frame, (255, 255)) if number in (4, 5, 8, 9, 10, 11) else frame)
    return path
