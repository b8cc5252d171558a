"""A real photograph, drivers made from it, and a network with known output."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor, nn

from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.media import VideoWriter
from megaportraits.models.base import BaseModel
from megaportraits.models.identity import Identity, Output
from megaportraits.models.motion import Expression, Motion
from megaportraits.ops.warping import Pose
from megaportraits.pipeline import Avatar

SIZE = 64


class Echo(nn.Module):
    """A "network" that answers every driver crop with that crop, so that the geometry around it can be checked."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(image_size=SIZE, predict_matte=True, predict_background=False, source_skip=False)
        self.config.motion = SimpleNamespace(blendshapes=())
        self.encoded = 0
        self.rendered = 0

    def motion(self, image: Tensor, pose: Pose | None = None, blendshapes: Tensor | None = None) -> Motion:
        one = torch.ones(len(image))
        straight = Pose(torch.eye(3).expand(len(image), 3, 3), torch.zeros(len(image), 2), one)
        return Motion(straight if pose is None else pose, Expression(image.flatten(1)))

    def encode(self, source: Tensor, motion: Motion | None = None) -> Identity:
        self.encoded += 1
        return Identity(source, None, motion or self.motion(source), torch.zeros(len(source)))

    def render(self, identity: Identity, motion: Motion) -> Output:
        self.rendered += len(motion)
        image = motion.expression.z.reshape(identity.volume.shape)
        return Output(image, torch.ones_like(image[:, :1]), torch.zeros(1))


def echo_avatar(analyzer: FaceAnalyzer) -> Avatar:
    return Avatar(cast(BaseModel, Echo()), analyzer=analyzer, pose_from="network")


@pytest.fixture(scope="session")
def analyzer() -> FaceAnalyzer:
    return FaceAnalyzer()


@pytest.fixture
def avatar(analyzer: FaceAnalyzer) -> Avatar:
    return echo_avatar(analyzer)


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """The astronaut, 512 x 512."""
    return np.ascontiguousarray(skimage.data.astronaut())


def moved(image: np.ndarray, shift: float, roll: float = 0.0) -> np.ndarray:
    """A 192 x 256 view of the astronaut's head, shifted (pixels) and rolled (degrees)."""
    matrix = cv2.getRotationMatrix2D((226, 125), roll, 1.0)
    matrix[:, 2] += (shift - 226 + 128, -125 + 96)
    return cv2.warpAffine(image, matrix, (256, 192), borderMode=cv2.BORDER_REPLICATE)


def write_video(path: Path, frames: list[np.ndarray], times: list[int] | None = None, **options: Any) -> Path:
    """A driver; `times` are in ticks of `time_base`."""
    with VideoWriter(path, **options) as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, None if times is None else times[index])
    return path
