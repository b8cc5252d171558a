"""Image augmentations (B.1): colour jitter, degradation of drivers, random smooth warping."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.ops.geometry import HEAD_HALF_CM, LEFT_EYE_CM, MOUTH_CM, RIGHT_EYE_CM
from megaportraits.ops.warping import Pose, project, warp_image

_LUMA = (0.299, 0.587, 0.114)

FEATURES_CM = ((LEFT_EYE_CM, 2.2), (RIGHT_EYE_CM, 2.2), (MOUTH_CM, 3.6))
"""Eyes and mouth on the neutral head: centre and radius in centimetres. `random_warp` moves each of them rigidly."""


def _uniform(generator: torch.Generator, batch: int, low: float, high: float) -> Tensor:
    return torch.rand(batch, 1, 1, 1, generator=generator) * (high - low) + low


def color_jitter(image: Tensor, *, strength: float, generator: torch.Generator, repeat: int = 1) -> Tensor:
    """Change exposure, contrast, saturation, white balance and gamma at random, with one draw per image.

    Args:
        image: (B, 3, H, W) in [0, 1].
        strength: 1 is severe (for drivers), 0.3 is mild (for source and target).
        generator: on the CPU; the same state gives the same jitter.
        repeat: the batch consists of `repeat` stacked groups that share their draws (source and target of a pair).
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
    """Add blur, sensor noise and a loss of resolution to half of the images: real drivers are not clean renders."""
    batch, _, height, width = image.shape
    small = F.interpolate(image, scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False)
    soft = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
    blend = (_uniform(generator, batch, -1, 1)).clamp_min(0).to(image)
    noise = torch.randn(image.shape, generator=generator) * _uniform(generator, batch, -0.03, 0.04).clamp_min(0)
    return (image + (soft - image) * blend + noise.to(image)).clamp(0, 1)


def random_warp(
    image: Tensor, *, strength: float, generator: torch.Generator, cells: int = 3, pose: Pose | None = None
) -> Tensor:
    """Random smooth warping (B.1): "severely degrades the shape of the facial features, yet keeps the expression".

    The displacements come from a coarse random grid with smooth interpolation, so that lids and lips move with their
    surroundings. Where the pose is known, each eye and the mouth move rigidly, so that the openings between lids and
    lips keep their size.

    Args:
        image: (B, 3, H, W).
        strength: standard deviation of the displacements, in crop units.
        generator: on the CPU.
        cells: grid cells per axis: one less than the control points.
        pose: pose of the heads in the images; with None, eyes and mouth are not kept rigid.
    """
    return warp_image(image, warp_field(image, strength=strength, generator=generator, cells=cells, pose=pose))


def warp_field(
    image: Tensor, *, strength: float, generator: torch.Generator, cells: int = 3, pose: Pose | None = None
) -> Tensor:
    """The displacements (B, 2, H, W) of `random_warp`, in crop units."""
    batch, _, height, width = image.shape
    control = torch.randn(batch, 2, cells + 1, cells + 1, generator=generator) * strength
    field = F.interpolate(control, (height, width), mode="bicubic", align_corners=True).to(image)
    return field if pose is None else _hold_features(field, pose)


def _hold_features(field: Tensor, pose: Pose) -> Tensor:
    """Make the field constant on each facial feature, with a smooth transition to the field around it.

    A feature at c appears in the warped image where p + d(p) = c. So the constant is d(c), and it is applied around
    c - d(c).
    """
    batch, _, height, width = field.shape
    y, x = torch.meshgrid(pixel_centres(height, field), pixel_centres(width, field), indexing="ij")
    points = torch.stack([x, y], -1)[None]  # (1, H, W, 2)
    kept, weights = torch.zeros_like(field), torch.zeros_like(field[:, :1])
    for center, radius in FEATURES_CM:
        c = project(torch.tensor([center]), pose)[:, 0]  # (B, 2)
        shift = _lookup(field, c)  # (B, 2)
        distance = (points - (c - shift)[:, None, None]).norm(dim=-1)  # (B, H, W)
        reach = (pose.scale.float() * (radius / HEAD_HALF_CM))[:, None, None]
        # The weight is 1 within the radius and falls smoothly to 0 at 1.6 radii.
        t = ((1.6 - distance / reach) / 0.6).clamp(0, 1)
        weight = (t * t * (3 - 2 * t))[:, None]
        kept = kept + weight * shift.reshape(batch, 2, 1, 1)
        weights = weights + weight
    excess = weights.clamp_min(1)
    return field * (1 - weights / excess) + kept / excess


def pixel_centres(n: int, like: Tensor) -> Tensor:
    """The centres of n pixels along an axis, in crop units."""
    return (torch.arange(n, device=like.device, dtype=torch.float32) + 0.5) * (2 / n) - 1


def _lookup(field: Tensor, points: Tensor) -> Tensor:
    """The field's value at the pixel nearest to each point (B, 2)."""
    height, width = field.shape[2:]
    column = ((points[:, 0] + 1) * (width / 2)).long().clamp(0, width - 1)
    row = ((points[:, 1] + 1) * (height / 2)).long().clamp(0, height - 1)
    return field[torch.arange(len(field), device=field.device), :, row, column]
