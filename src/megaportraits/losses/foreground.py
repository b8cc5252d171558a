"""Losses on the foreground only, "in both predictions and the ground truth" (3.1)."""

from __future__ import annotations

import torch
from torch import Tensor


def composite(image: Tensor, matte: Tensor, background: Tensor) -> Tensor:
    """Straight-alpha compositing: (B, 3, H, W), (B, 1, H, W), and a background that broadcasts."""
    return image * matte + background * (1 - matte)


def masked_l1(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute error, weighted by a map (B, 1, H, W) that is normalised to mean 1."""
    error = (prediction.float() - target.float()).abs()
    if weight is None:
        return error.mean()
    weight = weight.float()
    return (error * weight).sum() / (weight.sum() * error.shape[1]).clamp_min(1e-6)


def random_colors(batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Flat background colours (B, 3, 1, 1), uniform in [0, 1]."""
    return torch.rand(batch, 3, 1, 1, generator=generator).to(device)
