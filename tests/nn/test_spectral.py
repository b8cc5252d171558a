from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from megaportraits.config import ModelConfig
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_base, save_base
from megaportraits.nn.blocks import make_conv, standardize_weight
from megaportraits.nn.spectral import add_spectral_norm, plain_state_dict
from megaportraits.training.start import start_from


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


def test_zero_weights_get_none_and_standardised_ones_only_where_wanted() -> None:
    def net() -> nn.Module:
        zero = nn.Conv2d(2, 3, 1)
        nn.init.zeros_(zero.weight)
        return nn.Sequential(make_conv(2, 2, 2, 3, standardize=True), zero, nn.GroupNorm(1, 3))

    assert add_spectral_norm(net(), standardized=False) == 0
    assert add_spectral_norm(net()) == 1


def test_a_standardised_weight_is_divided_after_its_standardisation() -> None:
    torch.manual_seed(0)
    for dim in (2, 3):
        net = nn.Sequential(make_conv(dim, 3, 6, 3, standardize=True))
        wanted = standardize_weight(net[0].weight.detach())
        normed(net, torch.rand(1, 3, *[4] * dim))
        assert largest_singular_value(wanted) > 1.1
        torch.testing.assert_close(net[0].weight, wanted / largest_singular_value(wanted), atol=1e-3, rtol=0)


def test_a_norm_beneath_weight_standardisation_would_change_nothing() -> None:
    torch.manual_seed(0)
    conv = make_conv(2, 3, 4, 3, standardize=True)
    x = torch.rand(1, 3, 8, 8)
    scaled = copy.deepcopy(conv)
    scaled.weight.data /= largest_singular_value(scaled.weight)
    torch.testing.assert_close(conv(x), scaled(x), atol=1e-4, rtol=1e-4)


def test_files_of_a_normed_model_hold_its_standardised_weights_and_training_goes_on_from_them(
    tiny_config: ModelConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = tiny_config.model_copy(update={"weight_standardization": "paper"})
    model, again = BaseModel(config), BaseModel(config)
    for part in (model.generator_3d, model.generator_2d):
        assert add_spectral_norm(part) > 5
    source, driver = torch.rand(2, 1, 3, 32, 32)
    for _ in range(30):
        model(source, driver)
    save_base(tmp_path / "base.safetensors", model)
    saved = load_base(tmp_path / "base.safetensors")
    assert saved.config == config.model_copy(update={"weight_standardization": "none"})
    start_from(again, saved)
    for part in (again.generator_3d, again.generator_2d):
        add_spectral_norm(part)
    for _ in range(30):
        again(source, driver)
    with torch.no_grad():
        expected = model.eval()(source, driver).image
        for other in (saved, again.eval()):
            torch.testing.assert_close(other(source, driver).image, expected, atol=1e-2, rtol=0)  # float16
        scaled = BaseModel(config)  # a file that lost its norms would give other pictures
        scaled.load_state_dict(saved.state_dict())
        assert (scaled.eval()(source, driver).image - expected).abs().max() > 2e-2


@pytest.mark.parametrize("standardized", [False, True])
def test_saving_folds_the_norm_so_that_a_plain_model_gives_the_same_pictures(
    tiny_config: ModelConfig, tmp_path: Path, standardized: bool
) -> None:
    torch.manual_seed(0)
    model = BaseModel(tiny_config)
    plain_keys = set(model.state_dict())
    parts = (model.appearance, model.generator_2d)
    assert sum(add_spectral_norm(part, standardized=standardized) for part in parts) > 3
    source, driver = torch.rand(2, 1, 3, 32, 32)
    for _ in range(3):
        model(source, driver)
    save_base(tmp_path / "base.safetensors", model)
    assert model.training and set(load_file(tmp_path / "base.safetensors")) == plain_keys
    folded = tiny_config.model_copy(update={"weight_standardization": "none"})
    fresh = BaseModel(folded if standardized else tiny_config)
    fresh.load_state_dict(plain_state_dict(model, standardizes=not standardized))
    with torch.no_grad():
        expected = model.eval()(source, driver).image
        torch.testing.assert_close(fresh(source, driver).image, expected)
        half = load_base(tmp_path / "base.safetensors")(source, driver).image
    torch.testing.assert_close(half, expected, atol=1e-2, rtol=0)  # float16
