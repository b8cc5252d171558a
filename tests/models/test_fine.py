"""Blocks that double the size of G_2D's image: without effect at initialisation, and all parameters are trained."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from megaportraits.config import ModelConfig, parse_config
from megaportraits.errors import ConfigError
from megaportraits.models.base import BaseModel
from megaportraits.models.identity import Output
from megaportraits.ops.resample import shrink
from megaportraits.training.start import start_from


def fine_config(coarse: ModelConfig, *widths: int) -> ModelConfig:
    values = coarse.model_dump()
    values["image_size"] = coarse.image_size * 2 ** len(widths)
    values["generator_2d"] = {**values["generator_2d"], "fine": list(widths)}
    return parse_config(ModelConfig, values, "test")


def images(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A source and a driver of 64 px, or the same pictures smaller."""
    large = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    return shrink(large[0], size), shrink(large[1], size)


@pytest.mark.parametrize("widths", [(4,), (4, 2)])
@torch.no_grad()
def test_fine_blocks_change_no_picture_at_first(tiny_config: ModelConfig, widths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    coarse = BaseModel(tiny_config).eval()
    fine = BaseModel(fine_config(tiny_config, *widths)).eval()
    start_from(fine, coarse)
    side = 32 * 2 ** len(widths)
    large = [F.interpolate(x, (side, side), mode="nearest") for x in images(32)]
    before, after = coarse(*images(32)), fine(*large)
    assert after.image.shape[-1] == side and before.view is not None and after.view is not None
    torch.testing.assert_close(after.displacement, before.displacement)
    torch.testing.assert_close(after.view.flow.direct, before.view.flow.grown(side).direct, atol=1e-5, rtol=0)
    logits = before.view.painted.logit()
    for _ in widths:
        logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(after.view.painted, logits.sigmoid(), atol=1e-5, rtol=0)


def test_gradients_reach_every_parameter_of_a_fine_block(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = BaseModel(fine_config(tiny_config, 4))
    with torch.no_grad():
        for parameter in model.generator_2d.fine.parameters():
            if not parameter.any():  # what starts at zero hides what lies before it
                parameter.normal_(std=0.1)
    output: Output = model(*images(64))
    output.image.square().mean().backward()
    untouched = [n for n, p in model.generator_2d.fine.named_parameters() if p.grad is None or not p.grad.any()]
    assert not untouched


@torch.no_grad()
def test_a_fine_block_sees_the_source_at_full_resolution(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = BaseModel(fine_config(tiny_config, 4)).eval()
    source, driver = images(64)
    checkers = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2.0 - 1
    other = source + 0.1 * checkers  # the same at half the size
    first, second = model(source, driver), model(other, driver)
    assert first.view is not None and second.view is not None
    torch.testing.assert_close(second.displacement, first.displacement, atol=1e-5, rtol=0)
    assert (second.view.image - first.view.image).abs().max() > 0.01


def test_a_size_that_the_blocks_cannot_reach_is_refused(tiny_config: ModelConfig) -> None:
    values = tiny_config.model_dump()
    values["generator_2d"] = {**values["generator_2d"], "fine": [4]}
    values["image_size"] = 33
    with pytest.raises(ConfigError, match="cannot be halved"):
        parse_config(ModelConfig, values, "test")
