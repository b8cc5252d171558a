from __future__ import annotations

import torch
from torch import Tensor

from megaportraits.losses.equivariance import RandomTransform, equivariance_loss, jacobian_equivariance_loss
from megaportraits.ops.warping import cell_centres, sample_points, to_grid_units


def drawn(seed: int = 0) -> RandomTransform:
    generator = torch.Generator().manual_seed(seed)
    return RandomTransform.draw(2, affine=0.05, bend=0.005, points=5, generator=generator, device=torch.device("cpu"))


def frames(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(2, count, 2, generator=generator) * 1.2 - 0.6
    return points, torch.eye(2) + 0.3 * torch.randn(2, count, 2, 2, generator=generator)


def test_the_losses_are_zero_for_an_equivariant_detector_only() -> None:
    """If a warped image has its points at p, the image itself has them at T(p), with Jacobians T'(p) J."""
    transform = drawn()
    warped, warped_jacobian = frames(6)
    points, jacobian = transform(warped), transform.jacobian(warped) @ warped_jacobian
    assert equivariance_loss(points, warped, transform) < 1e-6
    assert jacobian_equivariance_loss(jacobian, warped_jacobian, warped, transform) < 1e-5
    assert equivariance_loss(warped, warped, transform) > 0.01
    assert jacobian_equivariance_loss(warped_jacobian, warped_jacobian, warped, transform) > 0.01


def test_a_warped_image_shows_at_each_pixel_what_is_at_the_transformed_place() -> None:
    transform = drawn()
    ramp = cell_centres((64, 64), torch.zeros(1)).permute(2, 0, 1).expand(2, -1, -1, -1)  # each pixel holds its place
    points, _ = frames(6)
    seen = sample_points(transform.warp(ramp), to_grid_units(points, 64))
    torch.testing.assert_close(seen, transform(points), atol=2e-3, rtol=0)


def test_transforms_differ_between_samples_and_are_smooth_maps_near_the_identity() -> None:
    points, _ = frames(50)
    moved = drawn()(points) - points
    assert 0.01 < moved.abs().mean() < 0.15
    assert not torch.allclose(moved[0], drawn()(points[:1].expand(2, -1, -1))[1] - points[0], atol=1e-3)
    assert (torch.linalg.det(drawn().jacobian(points)) > 0.5).all()


def test_without_strength_the_transform_is_the_identity() -> None:
    still = RandomTransform.draw(1, affine=0, bend=0, points=3, generator=torch.Generator(), device=torch.device("cpu"))
    points, _ = frames(4)
    torch.testing.assert_close(still(points[:1]), points[:1], atol=1e-6, rtol=0)
