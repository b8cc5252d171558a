"""Equivariance of keypoints under random warps (Siarohin et al., 2019, 3.3): a warped image has warped keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from megaportraits.ops.thin_plate import ThinPlateSpline
from megaportraits.ops.warping import cell_centres, sample_at


@dataclass(frozen=True)
class RandomTransform:
    """A smooth random map T of the plane near the identity: affine plus a thin-plate spline. Crop coordinates.

    Attributes:
        spline: the map, (x, y) to (x, y).
    """

    spline: ThinPlateSpline

    @staticmethod
    def draw(
        batch: int, *, affine: float, bend: float, points: int, generator: torch.Generator, device: torch.device
    ) -> RandomTransform:
        """Draw a map for each of `batch` samples.

        Args:
            batch: number of maps.
            affine: standard deviation of the affine part's six numbers around the identity.
            bend: standard deviation of the weights of the thin-plate kernels.
            points: control points along each axis, on a grid over the image.
            generator: on the CPU.
            device: of the maps.
        """
        linear = torch.cat([torch.zeros(1, 2), torch.eye(2)])
        matrix = linear + torch.randn(batch, 3, 2, generator=generator) * affine
        weights = torch.randn(batch, points**2, 2, generator=generator) * bend
        line = torch.linspace(-1, 1, points)
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(1, -1, 2).expand(batch, -1, -1)
        return RandomTransform(ThinPlateSpline(grid.to(device), weights.to(device), matrix.to(device)))

    def warp(self, image: Tensor) -> Tensor:
        """Warp images (B, C, H, W): pixel p of the result shows what is at T(p)."""
        height, width = image.shape[2:]
        cells = cell_centres((height, width), image)
        return sample_at(image, self.spline(cells.flatten(0, 1)).reshape(-1, height, width, 2))

    def __call__(self, points: Tensor) -> Tensor:
        """T at points (B, N, 2)."""
        return self.spline(points)

    def jacobian(self, points: Tensor) -> Tensor:
        """The derivative (B, N, 2, 2) of T at points (B, N, 2)."""
        return self.spline.jacobian(points)


def equivariance_loss(points: Tensor, warped: Tensor, transform: RandomTransform) -> Tensor:
    """Mean absolute difference between keypoints and the warped image's keypoints, moved back by T.

    Args:
        points: (B, K, 2), keypoints of an image, crop coordinates.
        warped: (B, K, 2), keypoints of `transform.warp(image)`.
        transform: T.

    Returns:
        Scalar; 0 for an equivariant detector.
    """
    return (points - transform(warped)).abs().mean()


def jacobian_equivariance_loss(
    jacobian: Tensor, warped_jacobian: Tensor, warped: Tensor, transform: RandomTransform
) -> Tensor:
    """Mean absolute entry of 1 - J^-1 T'(p) J_T (eq. 12): 1 is the identity, J and J_T the Jacobians before and after.

    Args:
        jacobian: J, (B, K, 2, 2), of the keypoints of an image.
        warped_jacobian: J_T, (B, K, 2, 2), of the keypoints of `transform.warp(image)`.
        warped: p, (B, K, 2), the latter keypoints.
        transform: T.

    Returns:
        Scalar; 0 for an equivariant detector.
    """
    with torch.autocast(jacobian.device.type, enabled=False):
        product = torch.linalg.inv(jacobian.float()) @ (transform.jacobian(warped) @ warped_jacobian.float())
    return (torch.eye(2, device=product.device) - product).abs().mean()
