from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from megaportraits.ops.geometry import (
    HEAD_HALF_CM,
    HeadPose,
    euler_to_matrix,
    geodesic_distance,
    matrix_to_euler,
    rotation_from_6d,
    rotation_from_euler,
)
from megaportraits.ops.warping import Pose, canonical_to_image


def test_euler_order_is_roll_after_yaw_after_pitch() -> None:
    ours = euler_to_matrix(20, -10, 35)
    theirs = Rotation.from_euler("zyx", [35, 20, -10], degrees=True)  # lower case: extrinsic x, then y, then z
    np.testing.assert_allclose(ours, Rotation.from_euler("ZYX", [35, 20, -10], degrees=True).as_matrix(), atol=1e-12)
    assert not np.allclose(ours, theirs.as_matrix())


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, -20, 10), (-80, 40, -170)])
def test_euler_angles_survive_the_round_trip(angles: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(matrix_to_euler(euler_to_matrix(*angles)), angles, atol=1e-9)


@pytest.mark.parametrize("yaw", [-90.0, 90.0])
def test_a_sine_rounded_beyond_one_is_a_right_angle(yaw: float) -> None:
    rotation = euler_to_matrix(yaw, 0, 0) * (1 + 1e-6)
    assert matrix_to_euler(rotation)[0] == yaw


def test_positive_angles_turn_right_look_down_and_lean_counter_clockwise() -> None:
    nose, crown = np.array([0, 0, 1.0]), np.array([0, 1.0, 0])
    assert (euler_to_matrix(10, 0, 0) @ nose)[0] > 0
    assert (euler_to_matrix(0, 10, 0) @ nose)[1] < 0
    assert (euler_to_matrix(0, 0, 10) @ crown)[0] < 0


def test_six_numbers_give_a_rotation() -> None:
    r = rotation_from_6d(torch.randn(50, 6, dtype=torch.float64))
    torch.testing.assert_close(r @ r.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(r), torch.ones(50, dtype=torch.float64))


def test_geodesic_distance_is_scipys_angle_with_finite_gradient_at_zero() -> None:
    a, b = Rotation.random(20, random_state=0), Rotation.random(20, random_state=1)
    ours = geodesic_distance(torch.tensor(a.as_matrix()), torch.tensor(b.as_matrix()))
    np.testing.assert_allclose(ours.numpy(), (a.inv() * b).magnitude(), atol=1e-6)
    stacked = [torch.tensor(r.as_matrix()).unflatten(0, (4, 5)) for r in (a, b)]
    torch.testing.assert_close(geodesic_distance(stacked[0], stacked[1]), ours.unflatten(0, (4, 5)))
    same = torch.eye(3)[None].requires_grad_()
    geodesic_distance(same, torch.eye(3)[None]).sum().backward()
    assert torch.isfinite(same.grad).all()


def test_numpy_projection_and_torch_theta_agree() -> None:
    pose = HeadPose(euler_to_matrix(15, -8, 20), np.array([0.1, -0.2]), 1.2)
    points = np.random.default_rng(0).uniform(-10, 10, (30, 3))
    batch = Pose(torch.tensor(pose.rotation)[None], torch.tensor(pose.translation)[None], torch.tensor([pose.scale]))
    canonical = torch.tensor(points * [1, -1, 1] / HEAD_HALF_CM, dtype=torch.float32)[None]
    got = canonical_to_image(canonical, batch, (1, 10**6, 10**6))[0]
    np.testing.assert_allclose(got.numpy(), pose.project(points), atol=1e-4)


def test_angles_are_exact_under_autocast() -> None:
    a, b = (torch.tensor(euler_to_matrix(yaw, 3, 0), dtype=torch.float32)[None] for yaw in (10.0, 10.7))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        angle = torch.rad2deg(geodesic_distance(a, b))
    assert abs(float(angle) - 0.7) < 0.01


def test_batches_of_euler_angles_give_the_rotations_of_single_ones() -> None:
    angles = [(0.0, 0.0, 0.0), (30.0, -20.0, 10.0), (-80.0, 40.0, -170.0)]
    got = rotation_from_euler(*torch.tensor(angles, dtype=torch.float64).unbind(1))
    np.testing.assert_allclose(got.numpy(), np.stack([euler_to_matrix(*a) for a in angles]), atol=1e-12)
