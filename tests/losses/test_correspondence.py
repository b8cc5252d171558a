"""The flow between two frames, computed from their surface maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from megaportraits.losses.correspondence import Surface, flow_loss, landmark_loss, origins, surface_loss
from megaportraits.ops.geometry import HEAD_HALF_CM

SIZE, CELLS = 128, 64
CELL = 2 / CELLS  # crop units


def plane(shift: float = 0.0) -> Surface:
    """A flat head that fills the crop; `shift` moves it to the right, crop units."""
    at = (torch.arange(CELLS) + 0.5) * CELL - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    zero = torch.zeros_like(x)
    coords = torch.stack([x - shift, y, zero, zero], -1)[None]
    return coords, (x - shift).abs()[None] < 1


def constant(shift: float) -> Tensor:
    """A copying flow that fetches everything from `shift` further right, crop units."""
    flow = torch.zeros(1, 2, SIZE, SIZE)
    flow[:, 0] = shift * SIZE / (SIZE - 1)
    return flow


@pytest.mark.parametrize("cells", [0, 3, 2.5])
def test_flow_that_fetches_every_point_from_where_it_was_has_no_loss(cells: float) -> None:
    moved = plane(cells * CELL)
    loss = flow_loss(constant(-cells * CELL), plane(), moved, torch.Generator().manual_seed(0))
    still = flow_loss(constant(0.0), plane(), moved, torch.Generator().manual_seed(0))
    assert loss.item() < 2e-3  # a tenth of a pixel; the border's cells have neighbours on one side only
    assert still.item() == pytest.approx(cells * CELL * SIZE / (SIZE - 1), abs=2e-3)


def test_points_between_cells_are_found_between_them() -> None:
    point = torch.tensor([[[0.37 * CELL, -0.21 * CELL, 0.0]]])
    at, seen = origins(plane(), point)
    assert seen.all()
    assert (at - point[..., :2]).abs().max() < 0.1 * CELL


def test_places_in_the_source_are_as_exact_under_autocast() -> None:
    points = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    points[..., 2] = 0
    expected, _ = origins(plane(), points)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = origins(plane(), points)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_what_the_source_hides_says_nothing() -> None:
    coords, valid = plane()
    left = valid & (coords[..., 0] < 0)
    points = torch.tensor([[[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [-0.5, 0.0, 0.1]]])  # the third 1.6 cm behind
    assert origins((coords, left), points)[1].tolist() == [[True, False, False]]
    flow = constant(0.3).requires_grad_()
    loss = flow_loss(flow, (coords, valid & False), (coords, valid), torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.item() == 0
    assert flow.grad is not None and not flow.grad.any()


def test_every_sample_is_compared_with_its_own_source() -> None:
    surfaces = [plane(), plane(4 * CELL)]
    source = tuple(torch.cat(x) for x in zip(*surfaces, strict=True))
    target = tuple(torch.cat([x, x]) for x in plane())
    flow = torch.cat([constant(0.0), constant(4 * CELL)])
    assert flow_loss(flow, source, target, torch.Generator().manual_seed(0)) < 2e-3
    assert flow_loss(flow.flip(0), source, target, torch.Generator().manual_seed(0)) > 0.1


def test_landmarks_have_no_loss_under_the_flow_that_fetches_them_from_where_they_were() -> None:
    source = torch.rand(1, 7, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    moved = source + torch.tensor([0.1, 0.0])
    assert landmark_loss(constant(-0.1), source, moved).item() == pytest.approx(0, abs=1e-6)
    assert landmark_loss(constant(0.0), source, moved).item() == pytest.approx(0.1 * SIZE / (SIZE - 1), rel=1e-4)


def test_landmarks_that_one_frame_lacks_do_not_count_and_give_no_gradient() -> None:
    flow = constant(0.0).requires_grad_()
    source, target = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    target[0, 0], target[0, 1] = torch.nan, 0.25
    loss = landmark_loss(flow, source, target)
    assert loss.item() == pytest.approx(0.5 * SIZE / (SIZE - 1))
    loss.backward()
    assert flow.grad is not None and flow.grad.isfinite().all() and flow.grad.any()
    nothing = landmark_loss(flow, source * torch.nan, target)
    assert nothing.item() == 0 and nothing.requires_grad


def test_cells_that_hold_no_surface_do_not_count_in_the_flow() -> None:
    """Even where most cells hold none and what they contain looks like eyes, which are drawn most densely."""
    coords, valid = plane()
    only = torch.zeros_like(valid)
    only[:, 20, 20] = True
    garbage = coords.clone()
    garbage[~only] = torch.tensor([3.0, -4.0, 8.0, 0.0]) / HEAD_HALF_CM  # an eye, crop units, y down
    flow = constant(0.3)
    clean = flow_loss(flow, (coords, valid), (coords, only), torch.Generator().manual_seed(0))
    loss = flow_loss(flow, (coords, valid), (garbage, only), torch.Generator().manual_seed(0))
    assert clean.item() == pytest.approx(0.3 * SIZE / (SIZE - 1), abs=2e-3)
    assert loss.item() == clean.item()


def test_the_surface_loss_is_the_mean_error_of_known_depths() -> None:
    coords = torch.zeros(2, 4, 4, 4)
    coords[..., 3] = 0.25  # crop units; in grid units of 8 cells 0.25 * 8 / 7
    valid = torch.zeros(2, 4, 4, dtype=torch.bool)
    valid[0, :2] = True
    depth = torch.full((2, 8, 8), 0.25 * 8 / 7)
    depth[0, :4] += 0.1
    depth[0, 4:] -= 5.0  # no surface is known there, nor in the second sample
    depth[1] += 9.0
    depth.requires_grad_()
    assert surface_loss(depth, coords, valid).item() == pytest.approx(0.1, abs=1e-5)
    nothing = surface_loss(depth, coords, valid & False)
    nothing.backward()
    assert nothing.item() == 0 and depth.grad is not None and not depth.grad.any()


def test_places_are_those_of_a_sum_over_all_cells_for_each_sample_of_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    coords, valid = torch.rand(3, 8, 8, 4, generator=generator) - 0.5, torch.rand(3, 8, 8, generator=generator) < 0.5
    valid[1] = False
    points = torch.rand(3, 20, 3, generator=generator) - 0.5
    at, seen = origins((coords, valid), points, sigma_cm=2.0, farthest_cm=2.0)
    distance = (points[:, :, None] - coords[..., :3].flatten(1, 2)[:, None]).norm(dim=-1) * HEAD_HALF_CM
    density = torch.exp(-(distance**2) / 8) * valid.flatten(1)[:, None]
    here = (torch.arange(8) + 0.5) / 4 - 1
    centres = torch.stack([here.repeat(8), here.repeat_interleave(8)], -1)
    expected = (density / density.sum(-1, keepdim=True)).nan_to_num() @ centres
    torch.testing.assert_close(at, expected, atol=1e-5, rtol=1e-4)
    assert (seen == ((distance < 2) & valid.flatten(1)[:, None]).any(-1)).all() and not seen[1].any()
