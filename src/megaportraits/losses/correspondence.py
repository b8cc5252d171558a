"""Direct supervision of both warps by known surface coordinates. Ours: synthetic data knows where every point lies.

A frame's coordinate map holds, per visible surface point, its canonical position X (neutral expression, unrotated)
and its camera depth. So the driver's warp must send the image point q to X, and the source's warp X back to q.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.losses.foreground import EYES_CM, MOUTH_CM, in_box
from megaportraits.ops.warping import (
    Pose,
    canonical_to_image,
    image_to_canonical,
    sample_field,
    to_grid_units,
)

Size = tuple[int, int, int]

MOUTH_FACTOR, EYES_FACTOR = 3.0, 15.0
"""Surface points there are a small share of all."""


def driver_warp_error(displacement: Tensor, pose: Pose, image: Tensor, canonical: Tensor, size: Size) -> Tensor:
    """|Bq + d(Bq) - X| per point, (B, N), grid units, for points q (B, N, 3) and their X (B, N, 3)."""
    rigid = image_to_canonical(image, pose, size)
    moved = rigid + sample_field(displacement, rigid)
    return (moved - canonical).abs().sum(-1)


def source_warp_error(displacement: Tensor, pose: Pose, image: Tensor, canonical: Tensor, size: Size) -> Tensor:
    """|A(X + d(X)) - q| per point, (B, N), grid units."""
    moved = canonical + sample_field(displacement, canonical)
    return (canonical_to_image(moved, pose, size) - image).abs().sum(-1)


def warp_loss(
    displacement: Tensor,
    pose: Pose,
    coords: Tensor,
    valid: Tensor,
    size: Size,
    *,
    side: str,
    emphasis: float = 20.0,
) -> Tensor:
    """Mean warp error over the visible surface.

    Args:
        displacement: (B, 3, D, H, W) of the warp generator.
        pose: the labelled pose of the same frame.
        coords: (B, h, w, 4), canonical X, Y, Z and depth at cell centres, crop units.
        valid: (B, h, w) bool.
        size: (D, H, W) of the volume.
        side: "source" or "driver".
        emphasis: points that move by d count 1 + emphasis |d|, and those around the mouth `MOUTH_FACTOR`, around the
            eyes `EYES_FACTOR` times as much: lips and lids are few but matter most.

    Returns:
        Scalar, grid units; 0 with gradient where nothing is valid.
    """
    batch, height, width, _ = coords.shape
    y, x = torch.meshgrid(
        (torch.arange(height, device=coords.device) + 0.5) * (2 / height) - 1,
        (torch.arange(width, device=coords.device) + 0.5) * (2 / width) - 1,
        indexing="ij",
    )
    grid = torch.stack([x, y], -1)[None].expand(batch, -1, -1, -1)
    image = to_grid_units(torch.cat([grid, coords[..., 3:]], -1).flatten(1, 2), size[2])
    canonical = to_grid_units(coords[..., :3].flatten(1, 2), size[2])
    function = driver_warp_error if side == "driver" else source_warp_error
    error = function(displacement, pose, image, canonical, size)
    with torch.no_grad():
        needed = (image_to_canonical(image, pose, size) - canonical).abs().sum(-1)
        weight = valid.flatten(1) * (1 + emphasis * needed)
        points = coords.flatten(1, 2)
        weight = weight * torch.where(in_box(points, MOUTH_CM), MOUTH_FACTOR, 1.0)
        weight = weight * torch.where(in_box(points, EYES_CM), EYES_FACTOR, 1.0)
    return (error * weight).sum() / weight.sum().clamp_min(1)


def surface_loss(depth: Tensor, coords: Tensor, valid: Tensor) -> Tensor:
    """Mean error of the visible surface's depth, grid units.

    Args:
        depth: (B, H, W), `models.source_skip.SourceView`'s.
        coords: (B, h, w, 4), whose last value is depth, crop units.
        valid: (B, h, w) bool.

    Returns:
        Scalar; 0 with gradient where nothing is valid.
    """
    width = depth.shape[-1]
    depth = F.interpolate(depth[:, None], coords.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    error = (depth - to_grid_units(coords[..., 3], width)).abs()
    return (error * valid).sum() / valid.sum().clamp_min(1)
