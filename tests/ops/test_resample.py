from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from megaportraits.ops.resample import downsample_volume, upsample_volume


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 2, 2)])
def test_separable_upsampling_is_trilinear(factors: tuple[int, int, int]) -> None:
    x = torch.randn(2, 3, 3, 5, 4, requires_grad=True)
    theirs = F.interpolate(x, scale_factor=factors, mode="trilinear", align_corners=False)
    ours = upsample_volume(x, factors)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_downsampling_keeps_the_mean() -> None:
    x = torch.randn(1, 2, 4, 6, 8)
    y = downsample_volume(x, (2, 2, 1))
    assert y.shape == (1, 2, 2, 3, 8)
    torch.testing.assert_close(y.mean(), x.mean())
