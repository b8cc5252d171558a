"""A teacher sees all of a driver that `animate` sees."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from megaportraits.config import ModelConfig
from megaportraits.models.base import BaseModel
from megaportraits.ops.geometry import HeadPose
from megaportraits.pipeline import Avatar, PoseFrom
from megaportraits.pipeline.teacher import AvatarTeacher


def test_a_teacher_measures_the_scores_of_its_drivers(
    monkeypatch: pytest.MonkeyPatch, tiny_config: ModelConfig
) -> None:
    motion = tiny_config.motion.model_copy(update={"blendshapes": ("jawOpen",)})
    avatar = Avatar(BaseModel(tiny_config.model_copy(update={"motion": motion})), pose_from=PoseFrom.LANDMARKS)
    photo = np.ascontiguousarray(skimage.data.astronaut()[:256, 98:354])
    (face,) = avatar.analyzer.detect(photo)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        avatar.model.motion, "encode_expression", lambda _, __, scores: seen.append(scores) or torch.zeros(2, 12)
    )
    weights = AvatarTeacher(avatar, "tiny", [])
    pose = HeadPose(np.eye(3), np.zeros(2), 1.0)
    weights.look([photo, np.zeros_like(photo)], [pose, pose])
    wanted = torch.tensor([[face.blendshape("jawOpen")], [float("nan")]])  # nobody is seen in a black picture
    torch.testing.assert_close(seen[0], wanted, equal_nan=True)
