"""Engines in torch: absolute and relative motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch

from megaportraits.config import ModelConfig
from megaportraits.live.engines import Setting, TorchBase
from megaportraits.models.base import BaseModel
from megaportraits.models.motion import Motion
from megaportraits.ops.geometry import HeadPose, euler_to_matrix
from megaportraits.pipeline import Avatar, MotionMode, PoseFrom, ScaleFrom
from megaportraits.pipeline.options import MotionOptions
from megaportraits.pipeline.tensors import head_pose

TORCH = Setting("torch", "float32", 1)
REST = np.zeros(52, np.float32)
RELATIVE = MotionOptions(motion=MotionMode.RELATIVE)


def pose(yaw: float, x: float = 0.0, scale: float = 1.0) -> HeadPose:
    return HeadPose(euler_to_matrix(yaw, 0, 0), np.array([x, 0.1]), scale)


def test_relative_motion_starts_from_the_head_that_was_called_neutral(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    avatar = Avatar(BaseModel(tiny_config), pose_from=PoseFrom.LANDMARKS)
    portrait = avatar.encode(np.ascontiguousarray(skimage.data.astronaut()))
    own = head_pose(portrait.motion.pose)
    head = np.random.default_rng(0).integers(0, 256, (avatar.size, avatar.size, 3), np.uint8)
    engine = TorchBase(avatar, portrait, TORCH, RELATIVE)
    assert engine.relative
    assert np.allclose(
        engine.draw(head, pose(20), REST).pose.rotation, pose(20).rotation, atol=1e-5
    )  # nobody is neutral yet
    for neutral in (pose(20, x=0.1, scale=1.1), pose(-10)):  # recalibrated
        engine.rest(head, neutral, REST)
        drawn = engine.draw(head, neutral, REST)
        wanted = avatar.render(portrait, portrait.motion)
        assert np.allclose(drawn.premultiplied, wanted.premultiplied, atol=1e-4)
        assert drawn.pose.scale == pytest.approx(own.scale)
    moved = engine.draw(head, pose(0, x=0.05), REST).pose
    assert np.allclose(moved.rotation, pose(10).rotation @ own.rotation, atol=1e-5)
    assert moved.translation == pytest.approx(own.translation + np.array([0.05, 0]), abs=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_neutral_head_is_no_motion_at_all(
    tiny_config: ModelConfig, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    avatar = Avatar(BaseModel(tiny_config), pose_from=PoseFrom.LANDMARKS)
    portrait = avatar.encode(np.ascontiguousarray(skimage.data.astronaut()))
    head = np.random.default_rng(1).integers(0, 256, (avatar.size, avatar.size, 3), np.uint8)
    engine = TorchBase(avatar, portrait, replace(TORCH, precision=precision), RELATIVE)
    engine.rest(head, pose(5), REST)
    drawn: list[Motion] = []
    monkeypatch.setattr(engine._avatar, "render", lambda portrait, motion: drawn.append(motion))
    engine.draw(head, pose(5), REST)
    torch.testing.assert_close(drawn[0].expression.z, portrait.motion.expression.z, atol=1e-5, rtol=0)
    torch.testing.assert_close(drawn[0].pose.rotation, portrait.motion.pose.rotation, atol=1e-5, rtol=0)


def test_the_head_size_of_the_photograph_can_be_kept(tiny_config: ModelConfig) -> None:
    avatar = Avatar(BaseModel(tiny_config), pose_from=PoseFrom.LANDMARKS)
    portrait = avatar.encode(np.ascontiguousarray(skimage.data.astronaut()))
    head = np.zeros((avatar.size, avatar.size, 3), np.uint8)
    own = head_pose(portrait.motion.pose).scale
    scales = [
        TorchBase(avatar, portrait, TORCH, MotionOptions(scale_from=who))
        .draw(head, pose(0, scale=1.2), REST)
        .pose.scale
        for who in (ScaleFrom.DRIVER, ScaleFrom.SOURCE)
    ]
    assert scales == pytest.approx([1.2, own])
