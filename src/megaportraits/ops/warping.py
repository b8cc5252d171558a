"""Sampling grids and warps. No other module builds grids or calls `grid_sample`.

Convention (`docs/conventions.md`): grids are (B, D, H, W, 3), last axis (x, y, z) in [-1, 1], voxel centres at
`linspace(-1, 1, n)` (`align_corners=True`), and `out[p] = volume[grid[p]]`.

A pose theta = (R, t, s) maps canonical head space to the image: `q = s * R X + t`. With A = theta and
B = theta^-1, each of the two warps of eq. 1 is composed as a *coordinate map*, so that each volume is sampled once:

- source to canonical (rotation first, then expression): `out[p] = v_s[A(p + d(p))]`;
- canonical to driver: `out[q] = c[Bq + d(Bq)]`, where only the 3-channel displacement d is sampled at Bq.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.ops.gather import grid_sample_by_gathers
from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.shapes import check_shape

_BY_GATHERS = ContextVar("volumes_by_gathers", default=False)


@contextmanager
def volumes_by_gathers() -> Iterator[None]:
    """Context in which volumes are sampled by gathers, with the same result; for export to other runtimes."""
    before = _BY_GATHERS.set(True)
    try:
        yield
    finally:
        _BY_GATHERS.reset(before)


@dataclass(frozen=True)
class Pose:
    """A batch of head poses, in crop units. `ops.geometry.HeadPose` is a single pose in numpy.

    Attributes:
        rotation: (B, 3, 3), head axes to camera axes, y up.
        translation: (B, 2), crop units, y down.
        scale: (B,), 1 when the head fills a 32 cm crop.
    """

    rotation: Tensor
    translation: Tensor
    scale: Tensor

    def __getitem__(self, index: slice | Tensor) -> Pose:
        return Pose(self.rotation[index], self.translation[index], self.scale[index])

    def detach(self) -> Pose:
        """The same pose without gradient."""
        return Pose(self.rotation.detach(), self.translation.detach(), self.scale.detach())

    @staticmethod
    def cat(poses: list[Pose]) -> Pose:
        """Concatenate along the batch."""
        return Pose(
            torch.cat([p.rotation for p in poses]),
            torch.cat([p.translation for p in poses]),
            torch.cat([p.scale for p in poses]),
        )


def identity_grid(size: tuple[int, int, int], like: Tensor) -> Tensor:
    """The grid (1, D, H, W, 3) that samples every voxel at its own centre."""
    axes = [torch.linspace(-1, 1, n, device=like.device, dtype=torch.float32) for n in size]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y, z], -1)[None]


def to_grid_units(coordinates: Tensor, n: int) -> Tensor:
    """Crop coordinates (borders at +-1) to grid coordinates (voxel centres at +-1) of an n-voxel axis."""
    return coordinates * (n / (n - 1))


def rotation_y_down(rotation: Tensor) -> Tensor:
    """Rotations (B, 3, 3) between head axes, which have y up, as rotations of grids and crop coordinates: y down."""
    flip = rotation.new_tensor([1.0, -1.0, 1.0])
    return rotation * flip[:, None] * flip[None, :]


def _rotate(points: Tensor, rotation: Tensor) -> Tensor:
    """R X for points (B, N, 3); not a matmul, which autocast would run in bfloat16."""
    return (points.float()[:, :, None] * rotation[:, None]).sum(-1)


def _translation(pose: Pose, size: tuple[int, int, int]) -> Tensor:
    _, height, width = size
    x = to_grid_units(pose.translation[:, 0].float(), width)
    y = to_grid_units(pose.translation[:, 1].float(), height)
    return torch.stack([x, y, torch.zeros_like(x)], -1)  # (B, 3)


def canonical_to_image(points: Tensor, pose: Pose, size: tuple[int, int, int]) -> Tensor:
    """theta: canonical grid points (B, ..., 3) to image grid points, `s R X + t`."""
    shape = points.shape
    flat = points.reshape(shape[0], -1, 3)
    moved = _rotate(flat, rotation_y_down(pose.rotation.float())) * pose.scale.float()[:, None, None]
    return (moved + _translation(pose, size)[:, None]).reshape(-1, *shape[1:])


def image_to_canonical(points: Tensor, pose: Pose, size: tuple[int, int, int]) -> Tensor:
    """theta^-1: image grid points (B, ..., 3) to canonical grid points, `R^T (q - t) / s`."""
    shape = points.shape
    batch = len(pose.rotation)
    flat = points.reshape(shape[0], -1, 3).expand(batch, -1, -1)
    moved = (flat - _translation(pose, size)[:, None]) / pose.scale.float()[:, None, None]
    return _rotate(moved, rotation_y_down(pose.rotation.float()).transpose(1, 2)).reshape(batch, *shape[1:])


def project(points: Tensor, pose: Pose) -> Tensor:
    """Project head points (N, 3), centimetres, with each pose to crop coordinates (B, N, 2), y down."""
    turned = (pose.rotation.float()[:, None] * points.float().to(pose.rotation.device)[None, :, None]).sum(-1)
    flat = turned[..., :2] * turned.new_tensor([1.0, -1.0]) / HEAD_HALF_CM
    return flat * pose.scale.float()[:, None, None] + pose.translation.float()[:, None]


def sample(volume: Tensor, grid: Tensor) -> Tensor:
    """Trilinear `out[p] = volume[grid[p]]`, with border padding.

    Args:
        volume: (B, C, D, H, W).
        grid: (B, d, h, w, 3); used in float32, because bfloat16 coordinates reduce the PSNR by 30 dB.

    Returns:
        (B, C, d, h, w) in the volume's dtype.
    """
    check_shape(volume, "volume", "B", "C", "D", "H", "W")
    check_shape(grid, "grid", volume.shape[0], "d", "h", "w", 3)
    if volume.dtype != torch.float32:
        return _grid_sample(volume.float(), grid.float()).to(volume.dtype)
    return _grid_sample(volume, grid.float())


def _grid_sample(inputs: Tensor, grid: Tensor) -> Tensor:
    if inputs.ndim == 5 and _BY_GATHERS.get():
        return grid_sample_by_gathers(inputs, grid)
    with torch.autocast(inputs.device.type, enabled=False):
        if inputs.ndim == 5 and _worth_splitting(inputs, grid):
            sampled = [_sampled_by_planes(one, where) for one, where in zip(inputs, grid, strict=True)]
            return torch.cat(sampled) if len(sampled) > 1 else sampled[0]
        return F.grid_sample(inputs, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _worth_splitting(inputs: Tensor, grid: Tensor) -> bool:
    """Whether splitting the grid into planes is faster: torch's 5-D CPU kernel uses one thread per item of the batch.

    Not with gradients: the backward pass would sum one gradient volume for each plane of the grid.
    """
    if inputs.device.type != "cpu" or (torch.is_grad_enabled() and (inputs.requires_grad or grid.requires_grad)):
        return False
    return len(inputs) < torch.get_num_threads() and grid.shape[1] > 1


def _sampled_by_planes(volume: Tensor, grid: Tensor) -> Tensor:
    """Sample a volume (C, D, H, W) at a grid (d, h, w, 3) as a batch of the grid's planes: (1, C, d, h, w)."""
    planes = volume.expand(len(grid), -1, -1, -1, -1)  # no copy: the kernel reads strided memory
    sampled = F.grid_sample(planes, grid[:, None], mode="bilinear", padding_mode="border", align_corners=True)
    return sampled.transpose(0, 2)


def resize_field(field: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Resample a displacement field (B, 3, D, H, W) to another grid. Its values, in grid units, do not change."""
    if tuple(field.shape[2:]) == tuple(size):
        return field
    return F.interpolate(field, size=size, mode="trilinear", align_corners=True)


def sample_field(field: Tensor, points: Tensor) -> Tensor:
    """The displacement (B, 3, D, H, W) at grid points (B, ..., 3), as (B, ..., 3)."""
    shape = points.shape
    grid = points.reshape(shape[0], shape[1] if points.ndim == 5 else 1, -1, 1, 3)
    return _grid_sample(field.float(), grid.float()).flatten(2).transpose(1, 2).reshape(shape)


def sample_points(image: Tensor, points: Tensor) -> Tensor:
    """The values (B, N, C) of an image (B, C, H, W) at points (B, N, 2), grid units."""
    return _grid_sample(image.float(), points.float()[:, None])[:, :, 0].transpose(1, 2)


def source_to_canonical(displacement: Tensor, pose: Pose, size: tuple[int, int, int]) -> Tensor:
    """Coordinates w_s->: `A(p + d(p))` at every canonical voxel p.

    Args:
        displacement: d, (B, 3, D', H', W'), grid units.
        pose: the source pose theta_s.
        size: (D, H, W) of the volume that will be sampled.

    Returns:
        (B, D, H, W, 3).
    """
    d = resize_field(displacement.float(), size).permute(0, 2, 3, 4, 1)
    return canonical_to_image(identity_grid(size, displacement) + d, pose, size)


def canonical_to_driver(displacement: Tensor, pose: Pose, size: tuple[int, int, int]) -> Tensor:
    """Coordinates w_->d: `Bq + d(Bq)` at every voxel q of the driver's view.

    Arguments and result are as in `source_to_canonical`, with the driver's pose.
    """
    canonical = image_to_canonical(identity_grid(size, displacement), pose, size)
    return canonical + sample_field(displacement, canonical)


def cell_centres(size: tuple[int, ...], like: Tensor) -> Tensor:
    """Crop coordinates (borders at +-1) of the pixel or voxel centres of a map of a size (H, W) or (D, H, W).

    Returns:
        (H, W, 2) or (D, H, W, 3), last axis (x, y) or (x, y, z).
    """
    axes = [(torch.arange(n, device=like.device, dtype=torch.float32) + 0.5) * (2 / n) - 1 for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)


def sample_at(values: Tensor, coordinates: Tensor) -> Tensor:
    """Linear interpolation of a map at crop coordinates (borders at +-1), with border padding.

    Args:
        values: (B, C, H, W) or (B, C, D, H, W).
        coordinates: (B, h, w, 2) or (B, d, h, w, 3), last axis (x, y) or (x, y, z); used in float32.

    Returns:
        (B, C, h, w) or (B, C, d, h, w) in the dtype of `values`.
    """
    factors = [n / max(n - 1, 1) for n in reversed(values.shape[2:])]
    grid = coordinates.float() * coordinates.new_tensor(factors, dtype=torch.float32)
    return _grid_sample(values.float(), grid).to(values.dtype)


def crop_around(image: Tensor, center: Tensor, half_side: Tensor, size: int) -> Tensor:
    """Square crops of an image, resampled.

    Args:
        image: (B, C, H, W).
        center: (B, 2), crop coordinates (borders at +-1), (x, y).
        half_side: (B,), half the side of each crop, in crop units.
        size: side of the result in pixels.

    Returns:
        (B, C, size, size); border padding outside the image.
    """
    check_shape(image, "image", "B", "C", "H", "W")
    points = cell_centres((size, size), image)[None] * half_side.float()[:, None, None, None]
    return sample_at(image.float(), points + center.float()[:, None, None])


def warp_image(image: Tensor, displacement: Tensor) -> Tensor:
    """`out[p] = image[p + d(p)]` in 2D: image (B, C, H, W), d (B, 2, H, W) in grid units, order (x, y)."""
    check_shape(displacement, "displacement", image.shape[0], 2, image.shape[2], image.shape[3])
    height, width = image.shape[2:]
    grid = identity_grid((1, height, width), image)[0, 0, :, :, :2]
    return _grid_sample(image.float(), grid + displacement.float().permute(0, 2, 3, 1))
