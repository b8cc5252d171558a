"""Sampling by gathers equals `grid_sample`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from megaportraits.errors import ShapeError
from megaportraits.ops.gather import grid_sample_by_gathers
from megaportraits.ops.warping import sample, sample_field, volumes_by_gathers


def native(inputs: Tensor, grid: Tensor) -> Tensor:
    return torch.nn.functional.grid_sample(
        inputs, grid, mode="bilinear", padding_mode="border", align_corners=True
    )  # the independent reference


@pytest.mark.parametrize("sizes", [(5, 7, 9), (4, 1, 6), (6, 11), (1, 3)])
def test_gathers_equal_grid_sample_inside_and_outside(sizes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 4, *sizes, generator=generator)
    grid = torch.rand(3, 2, *sizes[1:], len(sizes), generator=generator) * 3 - 1.5
    assert torch.allclose(grid_sample_by_gathers(inputs, grid), native(inputs, grid), atol=1e-6)


def test_voxel_centres_give_the_voxels_themselves() -> None:
    inputs = torch.arange(2 * 3 * 5, dtype=torch.float32).reshape(1, 1, 2, 3, 5)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in (2, 3, 5)], indexing="ij")
    grid = torch.stack(axes[::-1], -1)[None]
    assert torch.allclose(grid_sample_by_gathers(inputs, grid), inputs, atol=1e-5)


def test_volumes_take_gathers_inside_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        "megaportraits.ops.warping.grid_sample_by_gathers",
        lambda inputs, grid: calls.append(inputs.shape) or grid_sample_by_gathers(inputs, grid),
    )
    volume, grid = torch.randn(2, 3, 4, 5, 6), torch.rand(2, 4, 5, 6, 3) * 2 - 1
    outside = sample(volume, grid), sample_field(volume, grid)
    assert calls == []
    with volumes_by_gathers():
        inside = sample(volume, grid), sample_field(volume, grid)
    assert len(calls) == 2
    for a, b in zip(outside, inside, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_grid_of_another_dimension_is_refused() -> None:
    with pytest.raises(ShapeError, match="grid"):
        grid_sample_by_gathers(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, 4, 3))
