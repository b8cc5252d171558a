"""Augmentations on whole batches (B.1): joint colour jitter, severe driver jitter, random smooth warping."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.ops.warping import warp_image

_LUMA = (0.299, 0.587, 0.114)


def _uniform(generator: torch.Generator, batch: int, low: float, high: float) -> Tensor:
    return torch.rand(batch, 1, 1, 1, generator=generator) * (high - low) + low


def color_jitter(image: Tensor, *, strength: float, generator: torch.Generator, repeat: int = 1) -> Tensor:
    """Random exposure, contrast, saturation, white balance and gamma, one draw per image.

    Args:
        image: (B, 3, H, W) in [0, 1].
        strength: 1 is severe (the driver's), 0.3 mild (source and target).
        generator: on the CPU; the same state gives the same jitter.
        repeat: the batch is `repeat` stacked groups that share their draws (source and target of a pair).
    """
    count = len(image) // repeat

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        value = torch.rand(count, channels, 1, 1, generator=generator) * (high - low) + low
        return value.repeat(repeat, 1, 1, 1).to(image)

    gamma = (draw(-0.5, 0.5) * strength).exp()
    gain = (draw(-0.4, 0.4) * strength + draw(-0.25, 0.25, 3) * strength).exp()
    contrast = (draw(-0.5, 0.5) * strength).exp()
    saturation = 1 + draw(-0.9, 0.6) * strength
    x = image.clamp(1e-3, 1).pow(gamma) * gain
    luma = (x * x.new_tensor(_LUMA).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
    x = luma + (x - luma) * saturation
    middle = luma.mean((2, 3), keepdim=True)
    return (middle + (x - middle) * contrast).clamp(0, 1)


def degrade(image: Tensor, *, generator: torch.Generator) -> Tensor:
    """Blur, sensor noise and lost resolution for half of the images: real drivers are not clean renders."""
    batch, _, height, width = image.shape
    small = F.interpolate(image, scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False)
    soft = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
    blend = (_uniform(generator, batch, -1, 1)).clamp_min(0).to(image)
    noise = torch.randn(image.shape, generator=generator) * _uniform(generator, batch, -0.03, 0.04).clamp_min(0)
    return (image + (soft - image) * blend + noise.to(image)).clamp(0, 1)


def random_warp(image: Tensor, *, strength: float, generator: torch.Generator, cells: int = 3) -> Tensor:
    """Random smooth warping (B.1): "severely degrades the shape of the facial features, yet keeps the expression".

    A coarse grid of random displacements, interpolated smoothly: wide enough that lids and lips move with
    their surroundings.

    Args:
        image: (B, 3, H, W).
        strength: standard deviation of the displacements, in crop units.
        generator: on the CPU.
        cells: control points per axis, less one.
    """
    batch, _, height, width = image.shape
    control = torch.randn(batch, 2, cells + 1, cells + 1, generator=generator) * strength
    field = F.interpolate(control, (height, width), mode="bicubic", align_corners=True)
    return warp_image(image, field.to(image))
