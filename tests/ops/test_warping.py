"""The geometric convention, tested on asymmetric sizes."""

from __future__ import annotations

import pytest
import torch

from megaportraits.errors import ShapeError
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.ops.warping import (
    Pose,
    canonical_to_driver,
    canonical_to_image,
    crop_around,
    identity_grid,
    image_to_canonical,
    sample,
    sample_field,
    source_to_canonical,
    to_grid_units,
    warp_image,
)

SIZE = (5, 7, 9)


def pose(yaw: float = 0, pitch: float = 0, roll: float = 0, t: tuple[float, float] = (0, 0), scale: float = 1) -> Pose:
    rotation = torch.tensor(euler_to_matrix(yaw, pitch, roll), dtype=torch.float32)[None]
    return Pose(rotation, torch.tensor([t], dtype=torch.float32), torch.tensor([scale], dtype=torch.float32))


def coordinates() -> torch.Tensor:
    """A volume that holds its own grid coordinates: trilinear sampling of it is exact."""
    return identity_grid(SIZE, torch.zeros(1))[0].permute(3, 0, 1, 2)[None]


def zeros() -> torch.Tensor:
    return torch.zeros(1, 3, *SIZE)


def test_identity_grid_is_a_no_op() -> None:
    volume = torch.randn(2, 3, *SIZE)
    torch.testing.assert_close(sample(volume, identity_grid(SIZE, volume).expand(2, -1, -1, -1, -1)), volume)


def test_identity_pose_and_no_displacement_is_a_no_op_on_both_sides() -> None:
    volume = torch.randn(1, 3, *SIZE)
    for coordinate_map in (source_to_canonical, canonical_to_driver):
        torch.testing.assert_close(sample(volume, coordinate_map(zeros(), pose(), SIZE)), volume, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_moving_one_axis_moves_that_axis(axis: int) -> None:
    n = SIZE[::-1][axis]  # the grid's last axis is (x, y, z)
    grid = identity_grid(SIZE, torch.zeros(1)).clone()
    grid[..., axis] += 2 / (n - 1)
    volume = torch.randn(1, 2, *SIZE)
    dimension = 4 - axis
    moved = sample(volume, grid).narrow(dimension, 0, n - 1)
    torch.testing.assert_close(moved, volume.narrow(dimension, 1, n - 1), atol=1e-5, rtol=0)


def test_there_and_back_returns_every_point() -> None:
    p = pose(20, -10, 30, (0.1, -0.2), 1.3)
    points = torch.rand(1, 40, 3) * 2 - 1
    torch.testing.assert_close(
        image_to_canonical(canonical_to_image(points, p, SIZE), p, SIZE), points, atol=1e-5, rtol=0
    )


def test_there_and_back_returns_the_volume() -> None:
    p = pose(12, 6, -8, (0.05, 0.03), 1.05)
    volume = coordinates()
    canonical = sample(volume, source_to_canonical(zeros(), p, SIZE))
    back = sample(canonical, canonical_to_driver(zeros(), p, SIZE))
    inner = (slice(None), slice(None), slice(2, 3), slice(2, 5), slice(3, 6))
    torch.testing.assert_close(back[inner], volume[inner], atol=1e-4, rtol=0)


def test_source_map_is_rotation_first_then_expression() -> None:
    p, d = pose(10, 5, 15, (0.02, 0.04), 0.9), torch.randn(1, 3, *SIZE) * 0.05
    rotated = coordinates_of(p)
    two_steps = sample(rotated, identity_grid(SIZE, d) + d.permute(0, 2, 3, 4, 1))
    composed = sample(coordinates(), source_to_canonical(d, p, SIZE))
    inner = (slice(None), slice(None), slice(1, 4), slice(2, 5), slice(2, 7))
    torch.testing.assert_close(composed[inner], two_steps[inner], atol=1e-4, rtol=0)


def coordinates_of(p: Pose) -> torch.Tensor:
    """`v_s[A r]` for the coordinate volume, without the border's clamping."""
    return canonical_to_image(identity_grid(SIZE, torch.zeros(1)), p, SIZE).permute(0, 4, 1, 2, 3)


def test_driver_map_is_expression_first_then_rotation() -> None:
    p, d = pose(8, -4, 10, (0.02, -0.03), 1.1), torch.randn(1, 3, *SIZE) * 0.03
    points = image_to_canonical(identity_grid(SIZE, d), p, SIZE)
    expected = points + sample_field(d, points)
    torch.testing.assert_close(canonical_to_driver(d, p, SIZE), expected)


def test_yaw_to_the_right_moves_near_voxels_right_and_far_voxels_left() -> None:
    near, far = torch.tensor([[[0.0, 0, 0.5]]]), torch.tensor([[[0.0, 0, -0.5]]])
    assert canonical_to_image(near, pose(yaw=20), SIZE)[0, 0, 0] > 0.1
    assert canonical_to_image(far, pose(yaw=20), SIZE)[0, 0, 0] < -0.1


def test_translation_in_crop_units_moves_by_pixels() -> None:
    shift = pose(t=(2 * 2 / 9, 0))  # two of nine voxels
    volume = torch.randn(1, 1, *SIZE)
    moved = sample(volume, canonical_to_driver(zeros(), shift, SIZE))
    torch.testing.assert_close(moved[..., 2:], volume[..., :-2], atol=1e-5, rtol=0)


def test_crop_units_are_borders_and_grid_units_are_centres() -> None:
    n = 8
    centre_of_first_voxel = torch.tensor(-1 + 1 / n)
    assert to_grid_units(centre_of_first_voxel, n) == pytest.approx(-1)


def test_whole_crop_is_the_image_and_half_crop_is_its_middle() -> None:
    image = torch.rand(1, 3, 16, 16)
    center, one = torch.zeros(1, 2), torch.ones(1)
    torch.testing.assert_close(crop_around(image, center, one, 16), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(crop_around(image, center, one / 2, 8), image[..., 4:12, 4:12], atol=1e-5, rtol=0)


def test_coordinates_stay_exact_when_the_volume_is_bfloat16() -> None:
    volume = torch.randn(1, 2, *SIZE)
    grid = canonical_to_driver(zeros(), pose(10, 5, 5), SIZE)
    error = (sample(volume.bfloat16(), grid).float() - sample(volume, grid)).abs().max()
    assert error < 0.03


def test_image_displacement_is_a_sampling_offset() -> None:
    image = torch.rand(1, 3, 6, 11)
    d = torch.zeros(1, 2, 6, 11)
    d[:, 0] = 2 / 10  # one pixel to the right
    torch.testing.assert_close(warp_image(image, d)[..., :-1], image[..., 1:], atol=1e-5, rtol=0)


def test_wrong_shapes_say_what_was_expected() -> None:
    with pytest.raises(ShapeError, match=r"volume: expected .* got \(2, 3\)"):
        sample(torch.zeros(2, 3), torch.zeros(1))


def test_coordinate_maps_stay_float32_under_autocast() -> None:
    p, d = pose(10, -6, 5, (0.1, 0.05), 1.1), torch.randn(1, 3, *SIZE) * 0.1
    exact = [f(d, p, SIZE) for f in (source_to_canonical, canonical_to_driver)]
    with torch.autocast("cpu", torch.bfloat16):
        for function, expected in zip((source_to_canonical, canonical_to_driver), exact, strict=True):
            assert torch.equal(function(d, p, SIZE), expected)


@pytest.mark.parametrize("batch", [1, 2])
def test_sampling_split_over_threads_gives_the_same_bits(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = torch.randn(batch, 3, *SIZE)
    grid = torch.rand(batch, 4, 6, 5, 3) * 2.6 - 1.3  # some of it outside
    calls: list[int] = []
    kernel = torch.nn.functional.grid_sample

    def counted(inputs: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        calls.append(len(inputs))
        return kernel(inputs, *args, **kwargs)

    monkeypatch.setattr("torch.nn.functional.grid_sample", counted)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    whole = sample(volume, grid)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert torch.equal(sample(volume, grid), whole)
    assert calls == [batch, *[4] * batch]  # one item for each plane of the grid


def test_sampling_with_gradients_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    volume = torch.randn(1, 3, *SIZE, requires_grad=True)
    sampled = sample(volume, torch.rand(1, 4, 6, 5, 3))
    assert sampled.grad_fn is not None and "GridSampler3D" in sampled.grad_fn.name()


def test_a_field_at_a_list_of_points_is_not_split_point_by_point(monkeypatch: pytest.MonkeyPatch) -> None:
    field, points = torch.randn(1, 3, *SIZE), torch.rand(1, 2, 3, 4, 3)
    whole = sample_field(field, points)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    sizes: list[int] = []
    kernel = torch.nn.functional.grid_sample

    def counted(inputs: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        sizes.append(len(inputs))
        return kernel(inputs, *args, **kwargs)

    monkeypatch.setattr("torch.nn.functional.grid_sample", counted)
    assert torch.equal(sample_field(field, points.flatten(1, 3)), whole.flatten(1, 3))
    assert torch.equal(sample_field(field, points), whole)
    assert sizes == [1, 2]
