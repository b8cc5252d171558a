"""Head poses, head crops and rotations, in the axes of `docs/conventions.md`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]

HEAD_CROP_CM = 32.0
"""Width of a head crop at the head's scale, centimetres (about 5 inter-ocular distances)."""
HEAD_HALF_CM = HEAD_CROP_CM / 2
HEAD_CENTER = (0.0, 1.0, 0.0)
"""The head point (centimetres) on which a head crop is centred."""
LEFT_EYE_CM, RIGHT_EYE_CM, MOUTH_CM = (3.1, 3.5, 9.0), (-3.1, 3.5, 9.0), (0.0, -3.6, 10.5)
"""Middles of the subject's left eye, the right one and the mouth on the neutral head (centimetres)."""


@dataclass(frozen=True)
class Crop:
    """A square, axis-aligned crop of an image. It may extend beyond the image.

    Attributes:
        center_x: image pixels (edge convention).
        center_y: image pixels (edge convention).
        side: image pixels, positive.
    """

    center_x: float
    center_y: float
    side: float

    def image_to_crop(self, points: npt.ArrayLike) -> Array:
        """Image pixels (..., 2) to crop coordinates (..., 2), -1 and 1 at the borders, y down."""
        center = (self.center_x, self.center_y)
        return (np.asarray(points, np.float64) - center) * (2 / self.side)

    def crop_to_image(self, points: npt.ArrayLike) -> Array:
        """Crop coordinates (..., 2) to image pixels (..., 2): the inverse of `image_to_crop`."""
        center = (self.center_x, self.center_y)
        return np.asarray(points, np.float64) * (self.side / 2) + center

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in image pixels."""
        half = self.side / 2
        return self.center_x - half, self.center_y - half, self.center_x + half, self.center_y + half


@dataclass(frozen=True)
class HeadPose:
    """A weak-perspective head pose in crop coordinates.

    Attributes:
        rotation: (3, 3), head axes to camera axes (x right, y up, z to the camera).
        translation: (2,), crop units (borders at -1 and 1), x right, y down.
        scale: 1 when the head fills a crop of `HEAD_CROP_CM`.
    """

    rotation: Array
    translation: Array
    scale: float

    def project(self, points: Array) -> Array:
        """Head points (N, 3) in centimetres to crop coordinates and depth (N, 3)."""
        camera = np.asarray(points, np.float64) @ self.rotation.T * (self.scale / HEAD_HALF_CM)
        camera[:, 1] *= -1
        camera[:, :2] += self.translation
        return camera


def euler_to_matrix(yaw: float, pitch: float, roll: float) -> Array:
    """Degrees to a rotation (3, 3): `Rz(roll) @ Ry(yaw) @ Rx(pitch)`.

    +yaw turns the face to image right, +pitch looks down, +roll is counter-clockwise for the viewer.
    """
    y, p, r = np.radians([yaw, pitch, roll])
    rx = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return rz @ ry @ rx


def matrix_to_euler(rotation: Array) -> tuple[float, float, float]:
    """The inverse of `euler_to_matrix`: (yaw, pitch, roll) in degrees, yaw in [-90, 90]."""
    r = np.asarray(rotation)
    yaw = np.degrees(np.arcsin(np.clip(-r[2, 0], -1, 1)))
    pitch = np.degrees(np.arctan2(r[2, 1], r[2, 2]))
    roll = np.degrees(np.arctan2(r[1, 0], r[0, 0]))
    return float(yaw), float(pitch), float(roll)


def rotation_from_euler(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """`euler_to_matrix` for batches: degrees (B,) each to rotations (B, 3, 3)."""
    (cy, sy), (cp, sp), (cr, sr) = ((a.deg2rad().cos(), a.deg2rad().sin()) for a in (yaw, pitch, roll))
    rows = (
        (cr * cy, cr * sy * sp - sr * cp, cr * sy * cp + sr * sp),
        (sr * cy, sr * sy * sp + cr * cp, sr * sy * cp - cr * sp),
        (-sy, cy * sp, cy * cp),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def rotation_from_6d(vectors: Tensor) -> Tensor:
    """Continuous 6D rotation output (B, 6) to matrices (B, 3, 3) by Gram-Schmidt (Zhou et al., CVPR 2019).

    The two 3-vectors are the first two columns of the matrix.
    """
    a, b = vectors[..., :3], vectors[..., 3:]
    x = torch.nn.functional.normalize(a, dim=-1)
    y = torch.nn.functional.normalize(b - (x * b).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def geodesic_distance(a: Tensor, b: Tensor) -> Tensor:
    """Angle between rotations (..., 3, 3), radians in [0, pi]; its gradient is finite everywhere."""
    # Not a matmul: autocast would run it in bfloat16, which resolves angles to half a degree only.
    relative = (a[..., :, :, None] * b[..., :, None, :]).sum(-3)  # a^T b
    # |R - R^T| and the trace give sin and cos of the angle; atan2 keeps the gradient finite at 0 and pi,
    # where acos does not.
    skew = relative - relative.transpose(-1, -2)
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1).square().sum(-1)
    sine = (sine + 1e-12).sqrt() / 2
    cosine = (relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.atan2(sine, cosine)
