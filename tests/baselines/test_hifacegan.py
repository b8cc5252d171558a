from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from megaportraits.baselines.hifacegan import HiFaceGan, LocalImportancePooling, Suppression
from megaportraits.config import ConfigError, HiFaceGanConfig, parse_config
from megaportraits.errors import ShapeError
from tests.conftest import TINY_HIFACEGAN


def tiny(**changes: object) -> HiFaceGan:
    torch.manual_seed(0)
    return HiFaceGan(parse_config(HiFaceGanConfig, TINY_HIFACEGAN | changes, "tiny"))


def test_the_default_has_the_published_sizes() -> None:
    """From the layers of the published code with 48 features, without its three unused output layers."""
    with torch.device("meta"):
        model = HiFaceGan(HiFaceGanConfig())

    def conv(inputs: int, outputs: int, kernel: int = 3, bias: bool = True) -> int:
        return inputs * outputs * kernel**2 + (outputs if bias else 0)

    def spade(channels: int, guidance: int) -> int:
        return conv(guidance, 128) + 2 * conv(128, channels)

    def block(inputs: int, outputs: int) -> int:
        middle = min(inputs, outputs)
        count = conv(inputs, middle) + conv(middle, outputs) + spade(inputs, outputs) + spade(middle, outputs)
        return count + (conv(inputs, outputs, 1, bias=False) + spade(inputs, outputs) if inputs != outputs else 0)

    widths = (48, 96, 192, 384, 768, 768)
    encoder = conv(3, 48, bias=False)
    for a, b in itertools.pairwise(widths):
        encoder += conv(a, a, bias=False) + 2 * a + conv(a, b)  # pooling with a norm, then a convolution
    generator = conv(3, 768) + 3 * block(768, 768)
    generator += block(768, 384) + block(384, 192) + block(192, 96) + block(96, 48) + conv(48, 3)
    assert sum(p.numel() for p in model.parameters()) == encoder + generator == 80_196_387


def test_the_picture_doubles_its_size_with_alpha_or_without() -> None:
    for matte in (True, False):
        model = tiny(matte=matte)
        made = model(torch.rand(2, model.channels, 32, 32))
        assert made.shape == (2, model.channels, 64, 64) and made.min() >= 0 and made.max() <= 1
    with pytest.raises(ShapeError, match="picture"):
        model(torch.rand(2, 4, 32, 32))


def test_every_parameter_learns_but_the_biases_that_an_instance_norm_removes() -> None:
    model = tiny()
    model(torch.rand(2, 4, 32, 32)).square().mean().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-9}
    assert still <= {f"suppression.convs.{level}.bias" for level in range(3)}


def test_pooling_averages_with_equal_weights_and_follows_the_important_cells_otherwise() -> None:
    pool = LocalImportancePooling(1)
    x = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        pool.norm.weight.zero_()
        inner = (slice(None), slice(None), slice(1, None), slice(1, None))  # padding counts at the border
        torch.testing.assert_close(pool(x)[inner], F.avg_pool2d(x, 3, 2, 1)[inner], atol=1e-5, rtol=0)
        pool.norm.weight.fill_(50)
        pool.conv.weight.zero_()
        pool.conv.weight[0, 0, 1, 1] = 1  # bright cells are important
        bright = F.max_pool2d(x, 3, 2, 1)
        assert (bright - pool(x)).abs().mean() < 0.5 * (bright - F.avg_pool2d(x, 3, 2, 1)).abs().mean()


def test_features_have_every_resolution_from_coarse_to_fine() -> None:
    features = Suppression(3, (2, 4, 8))(torch.rand(1, 3, 16, 16))
    assert [tuple(x.shape[1:]) for x in features] == [(8, 4, 4), (4, 8, 8), (2, 16, 16)]


def test_the_guidance_changes_the_image_beyond_the_reduced_picture() -> None:
    """Pictures that agree at the cells from which the generator starts differ in the result."""
    model = tiny().eval()
    picture = torch.rand(1, 4, 32, 32)
    other = picture.clone()
    other[:, :, 13, 13] = 1 - other[:, :, 13, 13]
    assert (model(picture) - model(other)).abs().max() > 1e-4


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be halved 4 times"):
        parse_config(HiFaceGanConfig, TINY_HIFACEGAN | {"image_size": 36, "halvings": 4}, "tiny")
