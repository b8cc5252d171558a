"""A teacher uses the same inputs of a driver as `animate`."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from megaportraits.config import ModelConfig
from megaportraits.models.base import BaseModel
from megaportraits.models.motion import Expression
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
    correction = avatar.model.motion.correction
    assert correction is not None
    monkeypatch.setattr(correction, "forward", lambda z, blendshapes: seen.append(blendshapes) or Expression(z))
    weights = AvatarTeacher(avatar, "tiny", [])
    pose = HeadPose(np.eye(3), np.zeros(2), 1.0)
    weights.look([photo, np.zeros_like(photo)], [pose, pose])
    wanted = torch.tensor([[face.blendshape("jawOpen")], [float("nan")]])  # nobody is seen in a black picture
    torch.testing.assert_close(seen[0], wanted, equal_nan=True)


def test_a_base_that_copies_no_pixels_draws_different_people_together(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    off = dict.fromkeys(("source_skip", "mirror_hidden", "refine_flow"), False)
    for config, mixes_people in ((tiny_config, False), (tiny_config.model_copy(update=off), True)):
        teacher = AvatarTeacher(Avatar(BaseModel(config), pose_from=PoseFrom.LANDMARKS), "tiny", [])
        assert teacher.mixes_people is mixes_people
    photo = np.ascontiguousarray(skimage.data.astronaut()[:300, 80:380])
    people = [teacher.avatar.encode(image) for image in (photo, np.ascontiguousarray(photo[:, ::-1]))]
    motions = [person.motion for person in people[::-1]]
    together = teacher.render(people, motions)
    alone = [teacher.render([person], [motion])[0] for person, motion in zip(people, motions, strict=True)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.premultiplied, other.premultiplied, atol=1e-4)
    assert np.abs(together[0].premultiplied - together[1].premultiplied).max() > 0.01
