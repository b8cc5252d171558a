"""The source skip moves pixels exactly as both warps define."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from megaportraits.config import ModelConfig
from megaportraits.losses.correspondence import surface_loss
from megaportraits.models.base import BaseModel
from megaportraits.models.motion import Expression, Motion
from megaportraits.models.source_skip import (
    Flow,
    FlowRefinement,
    Origins,
    SourceCopy,
    SourceSkip,
    SourceView,
    copy_large,
)
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.ops.warping import Pose, identity_grid, warp_image


def pose(yaw: float = 0.0, roll: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), scale: float = 1.0) -> Pose:
    rotation = torch.from_numpy(euler_to_matrix(yaw, 0, roll)).float()[None]
    return Pose(rotation, torch.tensor([shift]), torch.tensor([scale]))


@pytest.fixture
def model(tiny_config: ModelConfig) -> BaseModel:
    torch.manual_seed(0)
    return BaseModel(tiny_config).eval()  # the warps' last layers start at zero: only poses move


def flat_surface(model: BaseModel) -> None:
    """Whatever the features say, the visible surface is the plane through the head's middle."""
    skip = model.generator_2d.skip
    assert isinstance(skip, SourceSkip)
    torch.nn.init.zeros_(skip.surface.weight)
    torch.nn.init.zeros_(skip.surface.bias)


@torch.no_grad()
def test_the_source_itself_is_copied_where_nothing_moves(model: BaseModel) -> None:
    source, motion = torch.rand(1, 3, 32, 32), Motion(pose(yaw=20, roll=10, scale=0.9), Expression(torch.zeros(1, 12)))
    out = model.render(model.encode(source, motion), motion)
    assert out.view is not None
    assert out.view.flow.direct.abs().max() < 1e-5
    assert torch.allclose(out.view.image, source, atol=1e-4)


@torch.no_grad()
def test_a_shifted_driver_shifts_the_copy_by_whole_pixels(model: BaseModel) -> None:
    flat_surface(model)  # else a source that knows nothing yet may hide anything
    source, still = torch.rand(1, 3, 32, 32), Motion(pose(), Expression(torch.zeros(1, 12)))
    four_pixels_right = Motion(pose(shift=(8 / 32, 0.0)), still.expression)
    out = model.render(model.encode(source, still), four_pixels_right)
    assert out.view is not None
    inside = slice(8, 24)
    assert torch.allclose(out.view.image[..., inside, inside], source[..., inside, 4:20], atol=1e-4)


def test_a_nearer_surface_turns_further(tiny_config: ModelConfig) -> None:
    """Under yaw, what is near moves with the face and what is far moves against it."""
    narrow = tiny_config.generator_2d.model_copy(update={"channels": 1})
    skip = SourceSkip(tiny_config.model_copy(update={"volume_depth": 5, "generator_2d": narrow}))
    grid = identity_grid((5, 4, 4), torch.zeros(1))
    origins = grid + torch.tensor([0.2, 0.0, 0.0]) * grid[..., 2:]
    flows = []
    for plane in (0, 4):
        with torch.no_grad():
            skip.surface.weight.zero_()
            skip.surface.bias.fill_(-50.0)
            skip.surface.bias[plane] = 50.0
        flow, depth = skip.flow(torch.zeros(1, 1, 4, 4), Origins(origins), 16)
        assert flow.mirrored is None and flow.hidden is None
        assert torch.allclose(depth, torch.full((1, 4, 4), -1.0 if plane == 0 else 1.0))
        flows.append(flow.direct[:, 0])
    unit = 0.2 * (3 / 4) * (16 / 15)  # from the volume's grid units to the image's
    assert torch.allclose(flows[0], torch.full_like(flows[0], -unit), atol=1e-6)
    assert torch.allclose(flows[1], torch.full_like(flows[1], unit), atol=1e-6)


def test_the_copy_teaches_the_warps_and_the_surface(model: BaseModel) -> None:
    source, motion = torch.rand(1, 3, 32, 32), Motion(pose(), Expression(torch.zeros(1, 12)))
    turned = replace(motion, pose=pose(yaw=15))
    out = model.render(model.encode(source, motion), turned)
    assert out.view is not None
    (out.view.image - torch.rand(1, 3, 32, 32)).abs().mean().backward()
    for part in (model.warp_source, model.warp_driver):
        assert part is not None and part.output.conv.weight.grad is not None and part.output.conv.weight.grad.any()
    skip = model.generator_2d.skip
    assert isinstance(skip, SourceSkip) and skip.surface.weight.grad is not None and skip.surface.weight.grad.any()


def test_the_refinement_starts_from_the_composed_warps_and_learns_from_the_copy(model: BaseModel) -> None:
    refinement = model.generator_2d.refinement
    assert isinstance(refinement, FlowRefinement)
    source, motion = torch.rand(1, 3, 32, 32), Motion(pose(), Expression(torch.randn(1, 12)))
    identity = model.encode(source, motion)
    before = model.render(identity, motion).view
    assert before is not None and before.flow.direct.abs().max() < 1e-5
    (before.image - torch.rand(1, 3, 32, 32)).abs().mean().backward()
    assert refinement.output.conv.weight.grad is not None and refinement.output.conv.weight.grad.any()
    with torch.no_grad():
        refinement.output.conv.bias.copy_(torch.tensor([0.5, -20.0]))
    after = model.render(identity, motion).view
    assert after is not None
    wanted = FlowRefinement.reach * torch.tensor([0.5, -20.0]).tanh()
    assert torch.allclose(after.flow.direct[0].mean((1, 2)), wanted, atol=1e-5)
    assert torch.allclose(after.image, after.flow.move(source))


@torch.no_grad()
def test_what_a_turned_source_hides_is_copied_from_its_mirror_image(model: BaseModel) -> None:
    flat_surface(model)
    source, turned = torch.rand(1, 3, 32, 32), Motion(pose(yaw=40), Expression(torch.zeros(1, 12)))
    identity = model.encode(source, turned)
    frontal = model.render(identity, replace(turned, pose=pose())).view
    assert frontal is not None and frontal.flow.hidden is not None and frontal.flow.mirrored is not None
    # The source's surface is a plane across the view; of a head turned by 40 degrees one half lies behind it.
    left, right = frontal.flow.hidden[..., 10].mean(), frontal.flow.hidden[..., 22].mean()
    assert {left.item(), right.item()} == {0.0, 1.0}
    half = slice(10, 11) if left else slice(22, 23)
    assert torch.allclose(frontal.image[..., half], warp_image(source, frontal.flow.mirrored)[..., half], atol=1e-5)
    # Mirror images: what one flow finds on the left, the other one finds on the right.
    across = identity_grid((1, 32, 32), source)[0, 0, :, :, 0]
    places = [across + flow[0, 0] for flow in (frontal.flow.direct, frontal.flow.mirrored)]
    torch.testing.assert_close(places[0].flip(1)[:, 8:24], places[1][:, 8:24], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_source_hides_nothing_of_its_own_view_and_nothing_is_mirrored_where_that_is_off(
    model: BaseModel, tiny_config: ModelConfig
) -> None:
    source, motion = torch.rand(1, 3, 32, 32), Motion(pose(yaw=20), Expression(torch.randn(1, 12)))
    own = model.render(model.encode(source, motion), motion).view
    assert own is not None and own.flow.hidden is not None and own.flow.hidden.max() == 0
    plain = BaseModel(tiny_config.model_copy(update={"mirror_hidden": False})).eval()
    identity = plain.encode(source, motion)
    view = plain.render(identity, motion).view
    assert identity.surface is None and view is not None and view.flow.mirrored is None


def test_mirroring_without_a_source_skip_is_refused(tiny_config: ModelConfig) -> None:
    with pytest.raises(ValueError, match="switch that on"):
        ModelConfig.model_validate(tiny_config.model_dump() | {"source_skip": False})


def test_a_flow_moves_a_larger_image_as_it_moves_a_small_one() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    small = torch.nn.functional.interpolate(ramp, (16, 16), mode="area")
    shift, hidden = torch.zeros(1, 2, 16, 16), torch.zeros(1, 1, 16, 16)
    shift[:, 0] = 2 * 2 / 15  # two small pixels
    hidden[..., 8:, :] = 1.0
    flow = Flow(shift, -shift, hidden)
    large = flow.grown(64).move(ramp)
    shrunk = torch.nn.functional.interpolate(large, (16, 16), mode="area")
    inside = slice(3, 13)
    torch.testing.assert_close(shrunk[..., :6, inside], flow.move(small)[..., :6, inside])
    torch.testing.assert_close(shrunk[..., 10:, inside], flow.move(small)[..., 10:, inside])
    assert (large[0, 0, 0, 32] - large[0, 0, -1, 32]).item() == pytest.approx(16 / 63, abs=1e-4)


def test_the_mirrored_flow_is_refined_by_the_residuals_mirror_image() -> None:
    nothing, residual = torch.zeros(1, 2, 4, 4), torch.tensor([0.1, 0.2])[None, :, None, None].expand(1, 2, 4, 4)
    refined = Flow(nothing, nothing, nothing[:, :1]).refined(residual)
    assert refined.mirrored is not None
    assert refined.direct[0, :, 0, 0].tolist() == pytest.approx([0.1, 0.2])
    assert refined.mirrored[0, :, 0, 0].tolist() == pytest.approx([-0.1, 0.2])


def test_surface_loss_is_the_mean_error_over_valid_cells() -> None:
    coords, valid = torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    coords[..., 3] = 0.3
    valid[0, 1, 1:3] = True
    depth = torch.full((1, 4, 4), 0.1, requires_grad=True)
    loss = surface_loss(depth, coords, valid)
    assert loss.item() == pytest.approx(0.3 * 4 / 3 - 0.1)  # crop units to units of 4 voxel centres
    empty = surface_loss(depth, coords, valid & False)
    empty.backward()
    assert empty.item() == 0 and depth.grad is not None


def test_what_was_copied_is_exactly_the_large_source_and_what_was_painted_only_grows() -> None:
    large, painted = torch.rand(1, 4, 64, 64), torch.rand(1, 4, 16, 16)
    small = torch.nn.functional.interpolate(large, (16, 16), mode="area")
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 2 * 2 / 15  # two small pixels to the right, eight large ones
    moved = warp_image(small, flow)
    everywhere, depth = torch.ones(1, 1, 16, 16), torch.zeros(1, 4, 4)
    result = copy_large(moved, large, SourceView(moved[:, :3], Flow(flow), depth, everywhere, 0 * moved[:, :3]))
    assert torch.allclose(result[..., 8:-16], large[..., 16:-8], atol=1e-5)
    grown = torch.nn.functional.interpolate(painted, (64, 64), mode="bicubic", align_corners=False).clamp(0, 1)
    result = copy_large(painted, large, SourceView(moved[:, :3], Flow(flow), depth, 0 * everywhere, painted[:, :3]))
    assert torch.equal(result, grown)


def test_the_flat_background_of_the_source_does_not_show_in_the_large_copy() -> None:
    """A model saw a disc over green and copied it; from straight colours and the matte no green comes along."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    matte = ((0.6 - (x**2 + y**2).sqrt()) * 4 + 0.5).clamp(0, 1)[None, None]
    red, green = torch.tensor([0.8, 0.1, 0.1])[None, :, None, None], torch.tensor([0.0, 1.0, 0.0])[None, :, None, None]
    seen = red * matte + green * (1 - matte)
    nothing, mostly = torch.zeros(1, 2, 16, 16), torch.full((1, 1, 16, 16), 0.9)
    view = SourceView(seen, Flow(nothing), torch.zeros(1, 4, 4), mostly, red.expand(-1, -1, 16, 16))
    straight = torch.cat([red.expand(-1, -1, 16, 16), matte], 1)
    output = torch.cat([0.9 * seen + 0.1 * red, torch.ones(1, 1, 16, 16)], 1)  # G_2D painted red, alpha 1 everywhere
    result = copy_large(output, straight, view)
    assert torch.allclose(result[:, :3], red.expand_as(seen), atol=1e-6)
    assert torch.allclose(result[:, 3:], 0.9 * matte + 0.1, atol=1e-6)


@pytest.mark.parametrize("size", [8, 16])
def test_features_keep_their_memory_layout_beside_the_moved_source(size: int) -> None:
    source, x = torch.rand(2, 3, 16, 16), torch.rand(2, 5, size, size)
    copy = SourceCopy(source, Flow(torch.zeros(2, 2, 16, 16)), torch.zeros(2, 4, 4), source)
    laid = copy.beside(x.contiguous(memory_format=torch.channels_last))
    assert laid.is_contiguous(memory_format=torch.channels_last)
    assert copy.beside(x).is_contiguous()
    assert torch.equal(laid, copy.beside(x))
