from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch

from megaportraits.config import ModelConfig
from megaportraits.faces import FaceAnalyzer
from megaportraits.media import VideoFrame
from megaportraits.models.base import BaseModel
from megaportraits.models.motion import Motion
from megaportraits.ops.geometry import geodesic_distance
from megaportraits.ops.pictures import over
from megaportraits.pipeline import AnimateOptions, Avatar, Background, MotionMode, PoseFrom
from megaportraits.pipeline.compose import Rendering
from megaportraits.pipeline.driver import HeadFollower
from megaportraits.pipeline.portrait import Portrait

from .conftest import moved

RELATIVE = AnimateOptions(motion=MotionMode.RELATIVE, background=Background.COLOR, size=32)


def test_driving_one_crop_with_its_pose_is_what_animating_does(
    tiny_config: ModelConfig, analyzer: FaceAnalyzer, portrait: np.ndarray
) -> None:
    torch.manual_seed(0)
    avatar = Avatar(BaseModel(tiny_config), analyzer=analyzer, pose_from=PoseFrom.LANDMARKS)
    source, driver = avatar.encode(portrait), moved(portrait, 4.0, roll=20)
    options = AnimateOptions(background=Background.COLOR, size=source.square.shape[0])
    (frame,) = avatar.animate(source, [driver], options)
    head = HeadFollower(analyzer, avatar.size).look(VideoFrame(driver, 0, Fraction(1, 25))).head
    assert head is not None
    rendering = avatar.drive(source, head.image, pose=head.pose.to_crop_pose(head.crop))
    np.testing.assert_array_equal(over(rendering.premultiplied, np.array(options.color)), frame.square)
    without = avatar.drive(source, head.image)  # the untrained network sees no roll
    assert np.abs(without.premultiplied - rendering.premultiplied).max() > 0.01


def test_at_the_neutral_frame_relative_motion_is_the_sources_own(
    tiny_config: ModelConfig, analyzer: FaceAnalyzer, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the driver came from elsewhere: a crop that had followed it would lie beside the neutral frame's."""
    avatar = Avatar(BaseModel(tiny_config), analyzer=analyzer, pose_from=PoseFrom.LANDMARKS)
    source = avatar.encode(portrait)
    rendered: list[Motion] = []
    renders = avatar.renders

    def spy(portrait: Portrait, motions: Sequence[Motion]) -> list[Rendering]:
        rendered.extend(motions)
        return renders(portrait, motions)

    monkeypatch.setattr(avatar, "renders", spy)
    way = [moved(portrait, shift, roll=shift) for shift in (36, 30, 24, 18, 12, 6)]
    list(avatar.animate(source, [*way, *[moved(portrait, 0)] * 6], RELATIVE))
    own, last = source.motion.pose, rendered[-1].pose
    torch.testing.assert_close(last.translation, own.translation, atol=0.01, rtol=0)
    torch.testing.assert_close(last.scale, own.scale, atol=0, rtol=0.01)
    assert geodesic_distance(last.rotation, own.rotation).item() < np.radians(1)
    assert (rendered[0].pose.translation - own.translation).abs().max() > 0.1  # it moves elsewhere
