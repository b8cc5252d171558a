"""Priors of face-vid2vid's keypoints (Wang et al., 2021, 3.3 and appendix)."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_SQUARED_DISTANCE = 0.1
"""D_t of the paper: the squared distance below which two keypoints repel each other, crop units."""
MEAN_DEPTH = 0.33
"""z_t of the paper: the keypoints' mean depth, crop units, towards the camera."""


def keypoint_prior(points: Tensor) -> Tensor:
    """Keypoints (B, K, 3) must be spread, and on average lie at `MEAN_DEPTH`.

    Returns:
        Scalar: for each sample the sum over ordered pairs of max(0, D_t - squared distance), plus the error of the mean
        depth; the mean over samples.
    """
    squared = (points[:, :, None] - points[:, None]).square().sum(-1)  # (B, K, K)
    pairs = (LEAST_SQUARED_DISTANCE - squared).clamp_min(0)
    others = ~torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    return (pairs * others).sum((1, 2)).mean() + (points[..., 2].mean(1) - MEAN_DEPTH).abs().mean()


def rotation_loss(rotation: Tensor, label: Tensor) -> Tensor:
    """The L1 distance of rotation matrices (B, 3, 3), summed over entries; the mean over samples."""
    return (rotation - label).abs().sum((1, 2)).mean()


def deformation_prior(deltas: Tensor) -> Tensor:
    """The mean L1 norm of the keypoints' expression deltas (B, K, 3), crop units."""
    return deltas.abs().sum(-1).mean()
