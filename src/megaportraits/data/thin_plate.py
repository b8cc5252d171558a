"""The driver's warp of B.1: "a random warping based on thin-plate-splines, which severely degrades the shape of the
facial features, yet keeps the expression intact (ex., it cannot close or open eyes or change the eyes' direction)".

The paper does not say where the control points lie. Here the points of a coarse grid are moved at random. Each eye and
the mouth also have control points, which share one displacement, so that the feature between them keeps its shape.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.data.augment import FEATURES_CM, pixel_centres
from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.thin_plate import fit_thin_plate
from megaportraits.ops.warping import Pose, project, warp_image

CELLS = 4
"""Cells along each axis of the grid of control points."""
_RING = 12
"""Number of control points on a circle with a feature's radius; half as many on half the radius, one at the centre."""
_CLEAR = 1.3
"""Grid points within this many radii of a feature move with it."""


def thin_plate_warp(
    image: Tensor, *, strength: float, generator: torch.Generator, cells: int = CELLS, pose: Pose | None = None
) -> Tensor:
    """Warp images (B, 3, H, W) by random thin-plate splines.

    Args:
        image: see above.
        strength: standard deviation of the control points' displacements, in crop units.
        generator: on the CPU.
        cells: cells along each axis of the grid of control points.
        pose: pose of the heads in the images; with None, eyes and mouth are not kept rigid.
    """
    height, width = image.shape[-2:]
    field = thin_plate_field(
        (height, width), strength=strength, generator=generator, cells=cells, pose=pose, batch=len(image)
    )
    return warp_image(image, field.to(image))


def thin_plate_field(
    size: tuple[int, int], *, strength: float, generator: torch.Generator, cells: int, pose: Pose | None, batch: int
) -> Tensor:
    """The displacements d (B, 2, H, W) of `thin_plate_warp`, in crop units: pixel p of the result shows p + d(p)."""
    points, moves = _controls(strength, generator, cells, pose, batch)
    height, width = (max(n // 4, 32) for n in size)  # a spline is smooth: a quarter of the resolution is enough
    y, x = torch.meshgrid(pixel_centres(height, points), pixel_centres(width, points), indexing="ij")
    field = fit_thin_plate(points, moves)(torch.stack([x, y], -1).reshape(-1, 2))
    field = field.transpose(1, 2).reshape(batch, 2, height, width)
    return F.interpolate(field, size, mode="bicubic", align_corners=False)


def _controls(
    strength: float, generator: torch.Generator, cells: int, pose: Pose | None, batch: int
) -> tuple[Tensor, Tensor]:
    """Control points (B, N, 2) and their displacements (B, N, 2)."""
    line = torch.linspace(-1, 1, cells + 1)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(1, -1, 2).repeat(batch, 1, 1)
    moves = torch.randn(batch, grid.shape[1], 2, generator=generator) * strength
    if pose is None:
        return grid, moves
    centers = project(torch.tensor([center for center, _ in FEATURES_CM], device=pose.scale.device), pose).cpu()
    shifts = fit_thin_plate(grid, moves)(
        centers
    )  # (B, 3, 2): nearby features move similarly, so that the warp does not fold
    middles = centers - shifts  # a feature at c appears where p + d(p) = c
    radii = torch.tensor([radius / HEAD_HALF_CM for _, radius in FEATURES_CM])
    reach = pose.scale.float().cpu()[:, None] * radii  # (B, 3)
    near = (grid[:, :, None] - middles[:, None]).norm(dim=-1) / reach[:, None]  # (B, N, 3)
    nearest = near.argmin(2)
    with_feature = shifts.gather(1, nearest[..., None].expand(-1, -1, 2))
    moves = torch.where((near.amin(2) < _CLEAR)[..., None], with_feature, moves)
    rings = middles[:, :, None] + reach[..., None, None] * _rings()  # (B, 3, R, 2)
    held = shifts[:, :, None].expand_as(rings)
    return torch.cat([grid, rings.flatten(1, 2)], 1), torch.cat([moves, held.flatten(1, 2)], 1)


def _rings() -> Tensor:
    """The centre and two rings of the unit circle, (19, 2)."""
    rings = [torch.zeros(1, 2)]
    for count, radius in ((_RING, 1.0), (_RING // 2, 0.5)):
        angle = torch.arange(count) * (2 * math.pi / count)
        rings.append(radius * torch.stack([angle.cos(), angle.sin()], -1))
    return torch.cat(rings)
