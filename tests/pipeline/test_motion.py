"""Edits of a motion, against the definitions in the documentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from megaportraits.models.motion import Motion
from megaportraits.ops.geometry import euler_to_matrix, matrix_to_euler
from megaportraits.ops.warping import Pose
from megaportraits.pipeline.motion import edit_motion, relative_motion
from megaportraits.pipeline.options import ScaleFrom


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
        Pose(rotation, torch.tensor([shift], dtype=torch.float32), torch.tensor([scale])), torch.full((1, 5), z)
    )


SOURCE = motion(12, -5, 8, (0.1, -0.2), 1.1, 0.3)
DRIVER = motion(-20, 9, 3, (-0.05, 0.07), 0.9, -0.6)


def test_absolute_motion_is_the_drivers_own() -> None:
    assert edit_motion(SOURCE, DRIVER) is not SOURCE
    edited = edit_motion(SOURCE, DRIVER)
    assert torch.equal(edited.pose.rotation, DRIVER.pose.rotation)
    assert torch.equal(edited.pose.translation, DRIVER.pose.translation)
    assert torch.equal(edited.pose.scale, DRIVER.pose.scale)
    assert torch.equal(edited.z, DRIVER.z)


def test_relative_motion_of_a_neutral_driver_is_the_source() -> None:
    still = relative_motion(SOURCE, DRIVER, DRIVER)
    torch.testing.assert_close(still.pose.rotation, SOURCE.pose.rotation)
    torch.testing.assert_close(still.pose.translation, SOURCE.pose.translation)
    torch.testing.assert_close(still.pose.scale, SOURCE.pose.scale)
    torch.testing.assert_close(still.z, SOURCE.z)


def test_relative_motion_from_the_sources_own_pose_is_absolute() -> None:
    same = relative_motion(SOURCE, DRIVER, SOURCE)
    torch.testing.assert_close(same.pose.rotation, DRIVER.pose.rotation)
    torch.testing.assert_close(same.pose.translation, DRIVER.pose.translation)
    torch.testing.assert_close(same.z, DRIVER.z)


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
    edited = edit_motion(SOURCE, DRIVER, scale_from=choice)
    assert edited.pose.scale.item() == pytest.approx(scale)
    assert torch.equal(edited.pose.rotation, DRIVER.pose.rotation)


def test_relative_zoom_is_bounded() -> None:
    edited = edit_motion(SOURCE, motion(scale=9), neutral=motion())
    assert edited.pose.scale.item() == pytest.approx(1.1 * 1.6)
