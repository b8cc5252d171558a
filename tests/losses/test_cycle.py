from __future__ import annotations

import numpy as np
import pytest
import torch

from megaportraits.errors import ShapeError
from megaportraits.losses.cycle import low_resolution_cycle


def means(image: np.ndarray, n: int) -> np.ndarray:
    """Cells of n x n pixels, averaged."""
    b, c, h, w = image.shape
    return image.reshape(b, c, h // n, n, w // n, n).mean((3, 5))


@pytest.mark.parametrize("factor", [1, 4])
def test_it_is_equation_9(factor: int) -> None:
    generator = torch.Generator().manual_seed(0)
    low, high = torch.rand(2, 3, 8, 8, generator=generator), torch.rand(2, 3, 16, 16, generator=generator)
    wanted = np.abs(means(low.numpy(), factor) - means(high.numpy(), 2 * factor)).mean()
    assert float(low_resolution_cycle(low, high, factor=factor)) == pytest.approx(wanted, rel=1e-5)


def test_detail_that_averages_out_costs_nothing() -> None:
    low = torch.rand(1, 3, 8, 8)
    detail = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)
    high = low.repeat_interleave(2, 2).repeat_interleave(2, 3) + detail
    assert float(low_resolution_cycle(low, high, factor=1)) < 1e-6


def test_gradient_goes_to_the_enhanced_image_only() -> None:
    low, high = torch.rand(1, 3, 8, 8, requires_grad=True), torch.rand(1, 3, 16, 16, requires_grad=True)
    low_resolution_cycle(low, high, factor=4).backward()
    assert low.grad is None and high.grad is not None and high.grad.any()


@pytest.mark.parametrize(("size", "factor"), [(8, 4), (32, 3)])
def test_other_sizes_are_refused(size: int, factor: int) -> None:
    with pytest.raises(ShapeError, match="twice as large"):
        low_resolution_cycle(torch.rand(1, 3, 16, 16), torch.rand(1, 3, size, size), factor=factor)
