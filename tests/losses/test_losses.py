from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from megaportraits.losses.contrastive import contrastive_loss
from megaportraits.losses.correspondence import (
    EYES_FACTOR,
    MOUTH_FACTOR,
    driver_warp_error,
    source_warp_error,
    warp_loss,
)
from megaportraits.losses.foreground import feature_weight, masked_l1
from megaportraits.losses.perceptual import perceptual_loss
from megaportraits.ops.compositing import composite
from megaportraits.ops.geometry import HEAD_HALF_CM, euler_to_matrix
from megaportraits.ops.warping import Pose, image_to_canonical, to_grid_units


def by_hand(pos: torch.Tensor, z: torch.Tensor, other: torch.Tensor, s: float, m: float) -> float:
    """Eq. 7 with explicit loops."""
    total = 0.0
    for b in range(z.shape[0]):
        negatives = [s * float(F.cosine_similarity(p[b], other[b], dim=0)) for p in pos]
        for p in pos:
            d = s * (float(F.cosine_similarity(p[b], z[b], dim=0)) - m)
            total -= math.log(math.exp(d) / (math.exp(d) + sum(math.exp(n) for n in negatives)))
    return total / z.shape[0]


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.4])
def test_contrastive_loss_is_equation_7_with_cosfaces_margin(margin: float) -> None:
    torch.manual_seed(0)
    pos, z, other = torch.randn(2, 5, 8), torch.randn(5, 8), torch.randn(5, 8)
    ours = contrastive_loss(pos, z, other, scale=5, margin=margin)
    assert float(ours) == pytest.approx(by_hand(pos, z, other, 5, margin), rel=1e-5)


def test_contrastive_gradient_reaches_every_descriptor() -> None:
    inputs = [torch.randn(2, 5, 8), torch.randn(5, 8), torch.randn(5, 8)]
    for tensor in inputs:
        tensor.requires_grad_()
    contrastive_loss(*inputs).backward()
    assert all(t.grad is not None and t.grad.any() for t in inputs)


@pytest.mark.parametrize("relative", [False, True])
def test_perceptual_loss_is_the_mean_over_the_pyramid(relative: bool) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 4, 3)
    prediction, target = torch.rand(2, 1, 3, 16, 16)

    def loss(factor: float, scales: int, shrinks: bool = False) -> torch.Tensor:
        images = [F.avg_pool2d(x, 2) if shrinks else x for x in (prediction, target)]
        network = lambda x: [factor * conv(x)]  # noqa: E731
        return perceptual_loss(*images, network, weights=(0.5,), scales=scales, relative=relative)

    torch.testing.assert_close(loss(1, scales=2), (loss(1, 1) + loss(1, 1, shrinks=True)) / 2)
    torch.testing.assert_close(loss(10, scales=2), loss(1, scales=2) * (1 if relative else 10))


def test_perceptual_loss_is_zero_for_equal_images_and_pulls_the_prediction() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 4, 3)
    network = lambda x: [conv(x)]  # noqa: E731
    target = torch.rand(1, 3, 16, 16)
    assert perceptual_loss(target, target, network, weights=(1,), scales=2) == 0
    prediction = torch.rand(1, 3, 16, 16, requires_grad=True)
    loss = perceptual_loss(prediction, target, network, weights=(0.5,), scales=1)
    torch.testing.assert_close(loss, 0.5 * F.l1_loss(conv(prediction), conv(target)))
    loss.backward()
    assert prediction.grad is not None and prediction.grad.any()


def test_warp_loss_is_zero_for_the_exact_rigid_answer_and_grows_with_expression() -> None:
    size = (6, 8, 8)
    pose = Pose(
        torch.tensor(euler_to_matrix(15, 5, 10)).float()[None],
        torch.tensor([[0.1, -0.05]]),
        torch.tensor([1.1]),
    )
    ticks = (torch.arange(64) + 0.5) / 32 - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    depth = 0.3 * torch.cos(x) * torch.cos(y)
    image = to_grid_units(torch.stack([x, y, depth], -1)[None], 8)
    canonical = image_to_canonical(image, pose, size) / to_grid_units(torch.tensor(1.0), 8)
    coords = torch.cat([canonical, depth[None, ..., None]], -1)
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    none = torch.zeros(1, 3, *size)
    for side in ("source", "driver"):
        assert warp_loss(none, pose, coords, valid, size, side=side) < 1e-5
        assert warp_loss(none + 0.1, pose, coords, valid, size, side=side) > 0.1


def test_warp_loss_ignores_what_is_not_valid() -> None:
    pose = Pose(torch.eye(3)[None], torch.zeros(1, 2), torch.ones(1))
    nothing = torch.zeros(1, 64, 64, dtype=torch.bool)
    assert warp_loss(torch.rand(1, 3, 4, 4, 4), pose, torch.rand(1, 64, 64, 4), nothing, (4, 4, 4), side="driver") == 0


def test_composite_and_masked_error() -> None:
    image, matte = torch.rand(1, 3, 4, 4), torch.rand(1, 1, 4, 4)
    torch.testing.assert_close(composite(image, torch.ones_like(matte), torch.zeros(1)), image)
    weight = torch.zeros(1, 1, 4, 4)
    weight[..., 0] = 5.0
    expected = image[..., 0].abs().mean()
    torch.testing.assert_close(masked_l1(image, torch.zeros_like(image), weight), expected)


def test_mouth_and_eyes_count_more_and_nothing_else() -> None:
    coords = torch.zeros(1, 64, 64, 4)
    coords[0, 10, 10, :3] = torch.tensor([0.0, 3.5, 11.0]) / 16  # lips: y is down in the map
    coords[0, 40, 40, :3] = torch.tensor([-3.0, -3.5, 9.0]) / 16  # an eye
    coords[0, 50, 50, :3] = torch.tensor([0.0, -8.0, 9.0]) / 16  # the forehead
    weight = feature_weight(coords, torch.ones(1, 64, 64, dtype=torch.bool), 64, emphasis=3.0)[0, 0]
    assert weight[10, 10] == 4 and weight[40, 40] == 10
    assert weight.sum() == 64 * 64 + 3 + 9


@pytest.mark.parametrize(("place", "factor"), [((3.0, 4.0, 8.0), EYES_FACTOR), ((0.0, -4.0, 8.0), MOUTH_FACTOR)])
def test_lids_and_lips_count_more_in_the_warp_loss(place: tuple[float, float, float], factor: float) -> None:
    cheek = (6.0, 0.0, 8.0)
    pose, size, field = (
        Pose(torch.eye(3)[None], torch.zeros(1, 2), torch.ones(1)),
        (4, 4, 4),
        torch.zeros(1, 3, 4, 4, 4),
    )
    coords = torch.zeros(1, 1, 2, 4)
    for index, point in enumerate((cheek, place)):
        coords[0, 0, index, :3] = torch.tensor(point) * torch.tensor([1.0, -1.0, 1.0]) / HEAD_HALF_CM

    def loss(*valid: bool) -> float:
        return warp_loss(field, pose, coords, torch.tensor([[valid]]), size, side="source", emphasis=0).item()

    plain, other = loss(True, False), loss(False, True)
    assert plain != pytest.approx(other)
    assert loss(True, True) == pytest.approx((plain + factor * other) / (1 + factor), rel=1e-5)


def test_compositing_mixes_by_the_matte() -> None:
    image, matte, background = (torch.full((1, c, 2, 2), value) for c, value in ((3, 0.2), (1, 0.25), (3, 0.8)))
    torch.testing.assert_close(composite(image, matte, background), torch.full((1, 3, 2, 2), 0.65))


def test_each_side_of_the_warps_has_its_own_error() -> None:
    torch.manual_seed(0)
    size, displacement = (4, 8, 8), 0.2 * torch.randn(2, 3, 4, 8, 8)
    rotation = torch.from_numpy(euler_to_matrix(20, 10, 0)).float().expand(2, 3, 3)
    pose = Pose(rotation, torch.full((2, 2), 0.1), torch.full((2,), 0.9))
    coords = 0.4 * torch.randn(2, 8, 8, 4)
    coords[..., 2] = 0.0  # neither eyes nor mouth, which are further in front
    cells = (torch.arange(8) + 0.5) / 4 - 1
    y, x = torch.meshgrid(cells, cells, indexing="ij")
    grid = torch.stack([x, y], -1).expand(2, 8, 8, 2)
    image = to_grid_units(torch.cat([grid, coords[..., 3:]], -1).flatten(1, 2), 8)
    canonical = to_grid_units(coords[..., :3].flatten(1, 2), 8)
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    errors = {"driver": driver_warp_error, "source": source_warp_error}
    losses = {side: warp_loss(displacement, pose, coords, valid, size, side=side, emphasis=0.0) for side in errors}
    for side, error in errors.items():
        torch.testing.assert_close(losses[side], error(displacement, pose, image, canonical, size).mean())
    assert (losses["driver"] - losses["source"]).abs() > 1e-3
