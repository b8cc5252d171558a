from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from megaportraits.config import ModelConfig
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_base, save_base
from megaportraits.nn.blocks import make_conv
from megaportraits.nn.spectral import add_spectral_norm, plain_state_dict


def largest_singular_value(weight: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(weight.detach().flatten(1))[0])


def normed(layer: nn.Module, inputs: torch.Tensor, steps: int = 60) -> nn.Module:
    assert add_spectral_norm(layer) == 1
    for _ in range(steps):  # one power iteration each
        layer(inputs)
    return layer


def test_the_largest_singular_value_becomes_one() -> None:
    torch.manual_seed(0)
    for layer, inputs in (
        (nn.Linear(7, 5), torch.rand(1, 7)),
        (make_conv(2, 3, 6, 3), torch.rand(1, 3, 4, 4)),
        (make_conv(3, 3, 6, 3), torch.rand(1, 3, 4, 4, 4)),
    ):
        assert abs(largest_singular_value(normed(layer, inputs).weight) - 1) < 1e-3


def test_standardised_and_zero_weights_get_none() -> None:
    zero = nn.Conv2d(2, 3, 1)
    nn.init.zeros_(zero.weight)
    net = nn.Sequential(make_conv(2, 2, 2, 3, standardize=True), zero, nn.GroupNorm(1, 3))
    assert add_spectral_norm(net) == 0


def test_a_norm_beneath_weight_standardisation_would_change_nothing() -> None:
    torch.manual_seed(0)
    conv = make_conv(2, 3, 4, 3, standardize=True)
    x = torch.rand(1, 3, 8, 8)
    scaled = copy.deepcopy(conv)
    scaled.weight.data /= largest_singular_value(scaled.weight)
    torch.testing.assert_close(conv(x), scaled(x), atol=1e-4, rtol=1e-4)


def test_saving_folds_the_norm_so_that_a_plain_model_gives_the_same_pictures(
    tiny_config: ModelConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = BaseModel(tiny_config)
    plain_keys = set(model.state_dict())
    assert add_spectral_norm(model.appearance) + add_spectral_norm(model.generator_2d) > 5
    source, driver = torch.rand(2, 1, 3, 32, 32)
    for _ in range(3):
        model(source, driver)
    save_base(tmp_path / "base.safetensors", model)
    assert model.training and set(load_file(tmp_path / "base.safetensors")) == plain_keys
    fresh = BaseModel(tiny_config)
    fresh.load_state_dict(plain_state_dict(model))
    with torch.no_grad():
        expected = model.eval()(source, driver).image
        torch.testing.assert_close(fresh(source, driver).image, expected)
        half = load_base(tmp_path / "base.safetensors")(source, driver).image
    torch.testing.assert_close(half, expected, atol=1e-2, rtol=0)  # float16
