from __future__ import annotations

import pytest
import torch

from megaportraits.losses.keypoints import MEAN_DEPTH, deformation_prior, keypoint_prior, rotation_loss


def test_spread_keypoints_in_front_cost_nothing() -> None:
    far = torch.tensor([[[-0.5, 0.0, MEAN_DEPTH - 0.1], [0.5, 0.0, MEAN_DEPTH + 0.1]]])
    assert keypoint_prior(far) == pytest.approx(0, abs=1e-6)


def test_close_keypoints_cost_twice_the_missing_squared_distance_and_depth_counts_by_its_mean() -> None:
    near = torch.tensor([[[0.0, 0.0, MEAN_DEPTH], [0.2, 0.0, MEAN_DEPTH]]])
    assert keypoint_prior(near) == pytest.approx(2 * (0.1 - 0.04))
    assert keypoint_prior(near + torch.tensor([0, 0, 0.5])) == pytest.approx(2 * (0.1 - 0.04) + 0.5)


def test_rotation_and_deformation_are_l1_distances() -> None:
    turned = torch.eye(3)[None] * torch.tensor([-1.0, -1.0, 1.0])  # by half a turn about z
    assert rotation_loss(turned, torch.eye(3)[None]) == pytest.approx(4)
    assert deformation_prior(torch.tensor([[[1.0, -2.0, 0.5], [0.0, 0.0, 0.5]]])) == pytest.approx(2)
