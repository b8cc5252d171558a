"""Thin-plate splines of the plane: evaluation, derivatives and interpolation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SMOOTHING = 1e-6
"""Added to the kernel's diagonal when a spline is fitted, because points may come close to each other."""


@dataclass(frozen=True)
class ThinPlateSpline:
    """f(x) = a + A x + sum_n w_n r_n^2 log r_n, where r_n is the distance of x to point n.

    Attributes:
        points: (B, N, 2).
        weights: w, (B, N, C).
        affine: (B, 3, C): a, then the transpose of A.
    """

    points: Tensor
    weights: Tensor
    affine: Tensor

    def __call__(self, queries: Tensor) -> Tensor:
        """The values (B, Q, C) at points (Q, 2) or (B, Q, 2)."""
        queries = queries.float().expand(len(self.points), -1, -1)
        with torch.autocast(queries.device.type, enabled=False):  # bfloat16 resolves positions to half a pixel only
            near = _kernel(torch.cdist(queries, self.points))
            plane = torch.cat([torch.ones_like(queries[..., :1]), queries], 2)
            return near @ self.weights + plane @ self.affine

    def jacobian(self, queries: Tensor) -> Tensor:
        """The derivatives (B, Q, C, 2) at points (Q, 2) or (B, Q, 2): df_c / dx_i at [..., c, i]."""
        queries = queries.float().expand(len(self.points), -1, -1)
        offset = queries[:, :, None] - self.points[:, None]  # (B, Q, N, 2)
        # d (r^2 log r) / dx = (2 log r + 1) (x - p), whose limit at 0 is 0.
        log = offset.square().sum(-1, keepdim=True).clamp_min(1e-24).log()
        with torch.autocast(queries.device.type, enabled=False):
            near = torch.einsum("bqni,bnc->bqci", (log + 1) * offset, self.weights)
        return near + self.affine[:, None, 1:].transpose(2, 3)


def fit_thin_plate(points: Tensor, values: Tensor) -> ThinPlateSpline:
    """The spline with the given values (B, N, C) at points (B, N, 2) and the least bending."""
    batch, count, _ = points.shape
    points = points.double()
    kernel = _kernel(torch.cdist(points, points)) + _SMOOTHING * torch.eye(count, dtype=torch.float64)
    affine = torch.cat([torch.ones(batch, count, 1, dtype=torch.float64), points], 2)  # (B, N, 3)
    lower = torch.cat([affine.transpose(1, 2), torch.zeros(batch, 3, 3, dtype=torch.float64)], 2)
    system = torch.cat([torch.cat([kernel, affine], 2), lower], 1)
    wanted = torch.cat([values.double(), torch.zeros(batch, 3, values.shape[2], dtype=torch.float64)], 1)
    solution = torch.linalg.solve(system, wanted).float()
    return ThinPlateSpline(points.float(), solution[:, :count], solution[:, count:])


def _kernel(distance: Tensor) -> Tensor:
    """r^2 log r, 0 at 0."""
    return torch.where(distance > 0, distance.square() * distance.clamp_min(1e-12).log(), 0.0)
