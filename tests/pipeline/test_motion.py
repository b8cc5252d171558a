"""Edits of a motion, against the definitions in the documentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from megaportraits.errors import ConfigError
from megaportraits.models.motion import Expression, Motion
from megaportraits.ops.geometry import euler_to_matrix, matrix_to_euler
from megaportraits.ops.warping import Pose
from megaportraits.pipeline.motion import edit_motion, relative_motion
from megaportraits.pipeline.options import MotionMode, MotionOptions, RestExpression, ScaleFrom, TranslationFrom


def motion(
    yaw: float = 0,
    pitch: float = 0,
    roll: float = 0,
    shift: tuple[float, float] = (0, 0),
    scale: float = 1,
    z: float = 0,
) -> Motion:
    rotation = torch.tensor(euler_to_matrix(yaw, pitch, roll), dtype=torch.float32)[None]
    return Motion(
        Pose(rotation, torch.tensor([shift], dtype=torch.float32), torch.tensor([scale])),
        Expression(torch.full((1, 5), z)),
    )


SOURCE = motion(12, -5, 8, (0.1, -0.2), 1.1, 0.3)
DRIVER = motion(-20, 9, 3, (-0.05, 0.07), 0.9, -0.6)
NEUTRAL = motion(4, -2, 1, (0.02, 0.01), 0.95, 0.2)
BOTH = (MotionMode.ABSOLUTE, MotionMode.RELATIVE)


def test_absolute_motion_is_the_drivers_own() -> None:
    assert edit_motion(SOURCE, DRIVER) is not SOURCE
    edited = edit_motion(SOURCE, DRIVER)
    assert torch.equal(edited.pose.rotation, DRIVER.pose.rotation)
    assert torch.equal(edited.pose.translation, DRIVER.pose.translation)
    assert torch.equal(edited.pose.scale, DRIVER.pose.scale)
    assert torch.equal(edited.expression.z, DRIVER.expression.z)


def test_relative_motion_of_a_neutral_driver_is_the_source() -> None:
    still = relative_motion(SOURCE, DRIVER, DRIVER)
    torch.testing.assert_close(still.pose.rotation, SOURCE.pose.rotation)
    torch.testing.assert_close(still.pose.translation, SOURCE.pose.translation)
    torch.testing.assert_close(still.pose.scale, SOURCE.pose.scale)
    torch.testing.assert_close(still.expression.z, SOURCE.expression.z)


def test_relative_motion_from_the_sources_own_pose_is_absolute() -> None:
    same = relative_motion(SOURCE, DRIVER, SOURCE)
    torch.testing.assert_close(same.pose.rotation, DRIVER.pose.rotation)
    torch.testing.assert_close(same.pose.translation, DRIVER.pose.translation)
    torch.testing.assert_close(same.expression.z, DRIVER.expression.z)


def test_relative_turn_adds_to_the_sources_turn() -> None:
    neutral, turned = motion(yaw=5), motion(yaw=25, shift=(0.1, 0), scale=1.2)
    edited = relative_motion(motion(yaw=-10, scale=0.8), turned, neutral)
    assert matrix_to_euler(edited.pose.rotation[0].numpy())[0] == pytest.approx(10, abs=1e-3)
    assert edited.pose.scale.item() == pytest.approx(0.96)
    np.testing.assert_allclose(edited.pose.translation[0], [0.1, 0], atol=1e-6)


def test_a_relative_nod_stays_a_nod_for_a_turned_source() -> None:
    # The change is taken in camera axes: the viewer sees the same nod whatever way the source looks.
    edited = relative_motion(motion(yaw=90), motion(pitch=10), motion())
    expected = euler_to_matrix(0, 10, 0) @ euler_to_matrix(90, 0, 0)
    np.testing.assert_allclose(edited.pose.rotation[0], expected, atol=1e-6)


@pytest.mark.parametrize(("choice", "scale"), [(ScaleFrom.SOURCE, 1.1), (ScaleFrom.DRIVER, 0.9)])
def test_scale_comes_from_the_chosen_side(choice: ScaleFrom, scale: float) -> None:
    edited = edit_motion(SOURCE, DRIVER, MotionOptions(scale_from=choice))
    assert edited.pose.scale.item() == pytest.approx(scale)
    assert torch.equal(edited.pose.rotation, DRIVER.pose.rotation)


def test_relative_zoom_is_bounded() -> None:
    edited = edit_motion(SOURCE, motion(scale=9), MotionOptions(motion=MotionMode.RELATIVE), neutral=motion())
    assert edited.pose.scale.item() == pytest.approx(1.1 * 1.6)


@pytest.mark.parametrize("mode", BOTH)
def test_translation_from_the_source_is_the_sources(mode: MotionMode) -> None:
    options = MotionOptions(motion=mode, translation_from=TranslationFrom.SOURCE)
    edited = edit_motion(SOURCE, DRIVER, options, neutral=NEUTRAL)
    as_driven = edit_motion(SOURCE, DRIVER, MotionOptions(motion=mode), neutral=NEUTRAL)
    assert torch.equal(edited.pose.translation, SOURCE.pose.translation)
    assert torch.equal(edited.pose.rotation, as_driven.pose.rotation)
    assert torch.equal(edited.pose.scale, as_driven.pose.scale)
    assert torch.equal(edited.expression.z, as_driven.expression.z)


@pytest.mark.parametrize("mode", BOTH)
def test_a_frontal_head_has_no_angles_and_the_expression_still_follows(mode: MotionMode) -> None:
    edited = edit_motion(SOURCE, DRIVER, MotionOptions(motion=mode, frontal=True), neutral=NEUTRAL)
    as_driven = edit_motion(SOURCE, DRIVER, MotionOptions(motion=mode), neutral=NEUTRAL)
    assert torch.equal(edited.pose.rotation, torch.eye(3)[None])
    assert matrix_to_euler(edited.pose.rotation[0].numpy()) == (0, 0, 0)
    assert torch.equal(edited.expression.z, as_driven.expression.z)
    assert torch.equal(edited.pose.translation, as_driven.pose.translation)


def test_angles_of_a_frontal_head_are_exactly_the_wanted_ones() -> None:
    edited = edit_motion(SOURCE, DRIVER, MotionOptions(frontal=True, yaw=25, pitch=-10, roll=15))
    assert matrix_to_euler(edited.pose.rotation[0].numpy()) == pytest.approx((25, -10, 15), abs=1e-4)


@pytest.mark.parametrize("mode", BOTH)
def test_angles_turn_the_head_about_the_cameras_axes(mode: MotionMode) -> None:
    edited = edit_motion(SOURCE, DRIVER, MotionOptions(motion=mode, yaw=25, pitch=-10, roll=15), neutral=NEUTRAL)
    as_driven = edit_motion(SOURCE, DRIVER, MotionOptions(motion=mode), neutral=NEUTRAL)
    expected = euler_to_matrix(25, -10, 15) @ as_driven.pose.rotation[0].numpy()
    np.testing.assert_allclose(edited.pose.rotation[0], expected, atol=1e-6)


@pytest.mark.parametrize("angle", ["yaw", "pitch", "roll"])
def test_an_angle_adds_to_the_drivers_same_angle(angle: str) -> None:
    edited = edit_motion(SOURCE, motion(**{angle: 20}), MotionOptions(**{angle: -30}))  # type: ignore[arg-type]
    turned = dict(zip(("yaw", "pitch", "roll"), matrix_to_euler(edited.pose.rotation[0].numpy()), strict=True))
    assert turned.pop(angle) == pytest.approx(-10, abs=1e-4)
    assert list(turned.values()) == pytest.approx([0, 0], abs=1e-4)


@pytest.mark.parametrize("mode", BOTH)
@pytest.mark.parametrize("rest", RestExpression)
def test_strength_scales_the_change_and_nothing_else(mode: MotionMode, rest: RestExpression) -> None:
    def edited(strength: float) -> Motion:
        options = MotionOptions(motion=mode, rest_expression=rest, expression_strength=strength)
        return edit_motion(SOURCE, DRIVER, options, neutral=NEUTRAL)

    change = DRIVER.expression.z - (NEUTRAL.expression.z if rest is RestExpression.SOURCE else SOURCE.expression.z)
    assert torch.equal(edited(0).expression.z, SOURCE.expression.z)
    for strength in (0.5, 1, 1.7):
        torch.testing.assert_close(edited(strength).expression.z, SOURCE.expression.z + strength * change)
        assert torch.equal(edited(strength).pose.rotation, edited(0).pose.rotation)


@pytest.mark.parametrize("mode", BOTH)
def test_with_the_drivers_rest_the_expression_is_exactly_the_drivers(mode: MotionMode) -> None:
    options = MotionOptions(motion=mode, rest_expression=RestExpression.DRIVER)
    edited = edit_motion(SOURCE, DRIVER, options, neutral=NEUTRAL)
    assert torch.equal(edited.expression.z, DRIVER.expression.z)
    pose = DRIVER.pose if mode is MotionMode.ABSOLUTE else relative_motion(SOURCE, DRIVER, NEUTRAL).pose
    assert torch.equal(edited.pose.rotation, pose.rotation)
    assert torch.equal(edited.pose.translation, pose.translation)


def test_whose_expression_rests_follows_the_mode_unless_said() -> None:
    rests = [MotionOptions(motion=mode).rest for mode in BOTH]
    assert rests == [RestExpression.DRIVER, RestExpression.SOURCE]
    needs = [MotionOptions(motion=mode, rest_expression=rest).needs_neutral for mode in BOTH for rest in RestExpression]
    assert needs == [True, False, True, True]


def test_a_missing_neutral_motion_is_said() -> None:
    with pytest.raises(ConfigError, match="neutral"):
        edit_motion(SOURCE, DRIVER, MotionOptions(motion=MotionMode.RELATIVE))
