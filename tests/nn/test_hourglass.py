from __future__ import annotations

import pytest
import torch

from megaportraits.nn.blocks import BlockStyle
from megaportraits.nn.hourglass import Hourglass, doubled, halved


@pytest.mark.parametrize(("dim", "size"), [(2, (8, 8)), (3, (3, 8, 8))])
def test_an_hourglass_keeps_the_size_and_its_input(dim: int, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = Hourglass(dim, 5, width=4, most=8, levels=3, style=BlockStyle(2, "none"))
    x = torch.rand(2, 5, *size)
    y = net(x)
    assert y.shape == (2, net.channels, *size) and net.channels == 4 + 5
    torch.testing.assert_close(y[:, 4:], x, atol=0, rtol=0)
    assert [block.conv.out_channels for block in net.encoder.blocks] == [8, 8, 8]


def test_an_hourglass_sees_the_whole_image() -> None:
    torch.manual_seed(0)
    net = Hourglass(2, 1, width=4, most=8, levels=3, style=BlockStyle(2, "none"))
    x = torch.rand(1, 1, 16, 16, requires_grad=True)
    net(x)[0, 0, 0, 0].backward()
    assert x.grad is not None and x.grad[0, 0, 15, 15] != 0


def test_the_depth_of_a_volume_stays() -> None:
    assert halved(torch.zeros(1, 2, 5, 8, 6)).shape == (1, 2, 5, 4, 3)
    assert doubled(torch.zeros(1, 2, 5, 8, 6)).shape == (1, 2, 5, 16, 12)
