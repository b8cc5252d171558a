"""Avatars in bfloat16: the same pictures, motion in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from megaportraits.config import ModelConfig, parse_config
from megaportraits.errors import ConfigError
from megaportraits.models.base import BaseModel
from megaportraits.pipeline import Avatar
from megaportraits.pipeline.demo import demo_driver, demo_portrait
from megaportraits.pipeline.driver import FrameSource, HeadFollower
from tests.conftest import TINY


def test_shipped_nano_in_bfloat16_draws_real_people_as_in_float32() -> None:
    exact = Avatar.from_pretrained("nano", device="cpu", precision="float32")
    fast = exact.in_precision("bfloat16")
    photo = demo_portrait()
    view = HeadFollower(exact.analyzer, exact.size).look(next(FrameSource(demo_driver()).frames())).head
    assert view is not None
    pictures = []
    for avatar in (exact, fast):
        portrait = avatar.encode(photo)
        pose, scores = view.pose.to_crop_pose(view.crop), view.face.blendshapes
        motion = avatar.motions([view.image], [pose], [scores])[0]
        assert motion.expression.vector.dtype == motion.pose.rotation.dtype == torch.float32
        pictures.append(avatar.render(portrait, motion).premultiplied)
    error = float(np.square(pictures[0] - pictures[1], dtype=np.float64).mean())
    assert error > 0, "bfloat16 was not used"
    assert -10 * np.log10(error) > 45


def test_a_twin_in_bfloat16_leaves_the_avatar_as_it_is() -> None:
    tiny_avatar = Avatar(BaseModel(parse_config(ModelConfig, TINY, "test")))
    twin = tiny_avatar.in_precision("bfloat16")
    assert (twin.precision, tiny_avatar.precision) == ("bfloat16", "float32")
    kinds = [
        {layer.weight.dtype for layer in avatar.model.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)}
        for avatar in (twin, tiny_avatar)
    ]
    assert kinds == [{torch.bfloat16}, {torch.float32}]
    assert tiny_avatar.in_precision("float32") is tiny_avatar
    with pytest.raises(ConfigError, match="expected an avatar in float32"):
        twin.in_precision("float32")
