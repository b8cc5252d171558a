from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch

from megaportraits.config import ModelConfig
from megaportraits.faces import FaceAnalyzer
from megaportraits.media import Frame
from megaportraits.models.base import BaseModel
from megaportraits.pipeline import AnimateOptions, Avatar, Background, PoseFrom
from megaportraits.pipeline.compose import over
from megaportraits.pipeline.driver import HeadFollower

from .conftest import moved


def test_driving_one_crop_with_its_pose_is_what_animating_does(
    tiny_config: ModelConfig, analyzer: FaceAnalyzer, portrait: np.ndarray
) -> None:
    torch.manual_seed(0)
    avatar = Avatar(BaseModel(tiny_config), analyzer=analyzer, pose_from=PoseFrom.LANDMARKS)
    source, driver = avatar.encode(portrait), moved(portrait, 4.0, roll=20)
    options = AnimateOptions(background=Background.COLOR, size=source.square.shape[0])
    (frame,) = avatar.animate(source, [driver], options)
    head = HeadFollower(analyzer, avatar.size).look(Frame(driver, 0, Fraction(1, 25))).head
    assert head is not None
    rendering = avatar.drive(source, head.image, pose=head.pose.to_crop_pose(head.crop))
    np.testing.assert_array_equal(over(rendering.premultiplied, np.array(options.color)), frame.square)
    without = avatar.drive(source, head.image)  # the untrained network sees no roll
    assert np.abs(without.premultiplied - rendering.premultiplied).max() > 0.01
