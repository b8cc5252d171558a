"""Perceptual losses (3.1, eq. 4): L1 between feature maps of prediction and target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Features = Callable[[Tensor], list[Tensor]]


def perceptual_loss(
    prediction: Tensor,
    target: Tensor,
    network: Features,
    *,
    weights: Sequence[float],
    scales: int,
    relative: bool = False,
) -> Tensor:
    """Weighted L1 between features over an image pyramid.

    Args:
        prediction: (B, 3, H, W) in [0, 1]; receives gradient.
        target: (B, 3, H, W) in [0, 1]; receives none.
        network: maps an image to a list of feature maps.
        weights: one weight for each feature map (in the first author's code 0.2 each for VGG19).
        scales: levels of the pyramid, each half the size of the one before.
        relative: divide each map's distance by the target map's mean magnitude, for networks whose
            features differ in scale from layer to layer (EfficientNet-Lite0).

    Returns:
        Scalar, the mean over the pyramid.
    """
    total = prediction.new_zeros((), dtype=torch.float32)
    for scale in range(scales):
        if scale > 0:
            prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
        with torch.no_grad():
            wanted = network(target)
        for weight, got, want in zip(weights, network(prediction), wanted, strict=True):
            distance = F.l1_loss(got.float(), want.float())
            if relative:
                distance = distance / want.float().abs().mean().clamp_min(1e-3)
            total = total + weight * distance
    return total / scales
