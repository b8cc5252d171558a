"""Direct supervision of motion by known surface coordinates. Ours; synthetic clips have them.

A frame's coordinate map contains, for each visible surface point, its canonical position X (neutral expression,
unrotated) and its camera depth. So the driver's warp must map the image point q to X, and the source's warp X to q.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.losses.foreground import EYES_CM, MOUTH_CM, in_box
from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.warping import (
    Pose,
    canonical_to_image,
    cell_centres,
    image_to_canonical,
    sample_field,
    sample_points,
    to_grid_units,
)

Size = tuple[int, int, int]
Surface = tuple[Tensor, Tensor]
"""A coordinate map (B, h, w, 4) and its validity mask (B, h, w) bool."""

MOUTH_FACTOR, EYES_FACTOR = 3.0, 15.0
"""Weights of surface points around mouth and eyes, which are a small share of all points."""


def driver_warp_error(displacement: Tensor, pose: Pose, image: Tensor, canonical: Tensor, size: Size) -> Tensor:
    """|Bq + d(Bq) - X| for each point: (B, N), grid units; q (B, N, 3) is `image`, X (B, N, 3) is `canonical`."""
    rigid = image_to_canonical(image, pose, size)
    moved = rigid + sample_field(displacement, rigid)
    return (moved - canonical).abs().sum(-1)


def source_warp_error(displacement: Tensor, pose: Pose, image: Tensor, canonical: Tensor, size: Size) -> Tensor:
    """|A(X + d(X)) - q| for each point: (B, N), grid units; arguments as for `driver_warp_error`."""
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
        emphasis: points that move by d have the weight 1 + emphasis |d|. Points around the mouth count `MOUTH_FACTOR`
            times as much, those around the eyes `EYES_FACTOR` times, because lips and lids have few points.

    Returns:
        Scalar, grid units; 0 with gradient if no point is valid.
    """
    grid = _cell_centres(coords)
    image = to_grid_units(torch.cat([grid, coords[..., 3:]], -1).flatten(1, 2), size[2])
    canonical = to_grid_units(coords[..., :3].flatten(1, 2), size[2])
    function = driver_warp_error if side == "driver" else source_warp_error
    error = function(displacement, pose, image, canonical, size)
    with torch.no_grad():
        needed = (image_to_canonical(image, pose, size) - canonical).abs().sum(-1)
        weight = valid.flatten(1) * (1 + emphasis * needed)
        weight = weight * _feature_factor(coords.flatten(1, 2))
    return (error * weight).sum() / weight.sum().clamp_min(1)


def surface_loss(depth: Tensor, coords: Tensor, valid: Tensor) -> Tensor:
    """Mean error of the visible surface's depth, grid units.

    Args:
        depth: (B, H, W), of `models.source_skip.SourceView`.
        coords: (B, h, w, 4), whose last value is depth, crop units.
        valid: (B, h, w) bool.

    Returns:
        Scalar; 0 with gradient if no point is valid.
    """
    width = depth.shape[-1]
    depth = F.interpolate(depth[:, None], coords.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    error = (depth - to_grid_units(coords[..., 3], width)).abs()
    return (error * valid).sum() / valid.sum().clamp_min(1)


@torch.no_grad()
def origins(
    source: Surface, points: Tensor, *, sigma_cm: float = 0.2, farthest_cm: float = 0.4
) -> tuple[Tensor, Tensor]:
    """Find the positions of surface points in the source image.

    Args:
        source: coordinate map and validity mask of the source.
        points: (B, N, 3), canonical, crop units.
        sigma_cm: standard deviation of the Gaussian that weights the cells near a point, for positions between cells.
        farthest_cm: a point without a cell at most this far away is not visible in the source.

    Returns:
        (B, N, 2), crop units, and (B, N) bool, whether the point is visible.
    """
    coords, valid = source
    centres = _cell_centres(coords)
    found = points.new_zeros(*points.shape[:2], 2)
    seen = torch.zeros(points.shape[:2], dtype=torch.bool, device=points.device)
    for item, (cells, shown) in enumerate(zip(coords, valid, strict=True)):  # distances of one item fit into the cache
        if not shown.any():
            continue
        distance = torch.cdist(points[item], cells[shown][:, :3]).mul_(HEAD_HALF_CM)  # (N, visible cells)
        seen[item] = distance.amin(-1) < farthest_cm
        weight = torch.softmax(distance.square_().div_(-2 * sigma_cm**2), -1)
        with torch.autocast(points.device.type, enabled=False):  # bfloat16 resolves positions to a fifth of a pixel
            found[item] = weight @ centres[item][shown]
    return found, seen


def flow_loss(
    flow: Tensor, source: Surface, target: Surface, generator: torch.Generator, *, points: int = 640
) -> Tensor:
    """Mean error of the source skip's flow at random points of the visible surface, grid units.

    Args:
        flow: (B, 2, S, S), of `models.source_skip.SourceView`.
        source: coordinate map and validity mask of one frame.
        target: those of another frame of the same head.
        generator: draws the points, with the weights of `warp_loss` for mouth and eyes.
        points: how many points are drawn; each is compared with every cell of the source.

    Returns:
        Scalar; 0 with gradient if no point is visible in both.
    """
    known = source[1].flatten(1).any(1) & target[1].flatten(1).any(1)  # real clips have no coordinate maps
    if not known.any():
        return flow.sum() * 0
    flow, source, target = flow[known], (source[0][known], source[1][known]), (target[0][known], target[1][known])
    coords, valid = target[0].flatten(1, 2), target[1].flatten(1)
    weight = _feature_factor(coords) * valid + 1e-9
    chosen = torch.multinomial(weight.cpu(), points, replacement=True, generator=generator).to(coords.device)

    def pick(values: Tensor) -> Tensor:
        return values.gather(1, chosen[..., None].expand(-1, -1, values.shape[-1]))

    origin, seen = origins(source, pick(coords[..., :3]))
    seen = seen & valid.gather(1, chosen)
    wanted = to_grid_units(origin - pick(_cell_centres(target[0]).flatten(1, 2)), flow.shape[-1])
    got = pick(F.interpolate(flow, target[0].shape[1:3], mode="area").flatten(2).transpose(1, 2))
    return ((got - wanted).abs().sum(-1) * seen).sum() / seen.sum().clamp_min(1)


def landmark_loss(flow: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Mean error of the source skip's flow at landmarks, grid units; for real clips, which have no coordinate maps.

    Args:
        flow: (B, 2, S, S), of `models.source_skip.SourceView`.
        source: (B, N, 2), points in the source frame, crop units; NaN where unknown.
        target: (B, N, 2), the same points in the driver's frame.

    Returns:
        Scalar; 0 with gradient if no point is known in both.
    """
    known = (source + target).isfinite().all(-1)
    source, target = source.nan_to_num(), target.nan_to_num()
    size = flow.shape[-1]
    got = sample_points(flow, to_grid_units(target, size))
    wanted = to_grid_units(source - target, size)
    return ((got - wanted).abs().sum(-1) * known).sum() / known.sum().clamp_min(1)


def _cell_centres(coords: Tensor) -> Tensor:
    """Crop coordinates (B, h, w, 2) of the cell centres of a coordinate map."""
    batch, height, width, _ = coords.shape
    return cell_centres((height, width), coords).expand(batch, -1, -1, -1)


def _feature_factor(points: Tensor) -> Tensor:
    """Weights (B, N) of surface points (B, N, 3 or more): larger around mouth and eyes, 1 elsewhere."""
    factor = torch.where(in_box(points, MOUTH_CM), MOUTH_FACTOR, 1.0)
    return factor * torch.where(in_box(points, EYES_CM), EYES_FACTOR, 1.0)
