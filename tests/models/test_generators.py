"""z in G_2D: no effect at initialisation, an effect after training, none where it is switched off."""

from __future__ import annotations

import pytest
import torch

from megaportraits.config import ModelConfig
from megaportraits.models.base import BaseModel


@torch.no_grad()
@pytest.mark.parametrize("switched_on", [True, False])
def test_z_reaches_the_generator_once_it_is_learned(tiny_config: ModelConfig, switched_on: bool) -> None:
    torch.manual_seed(0)
    options = {"expression_in_generator": switched_on, "expression_change": False, "source_skip": False}
    config = tiny_config.model_copy(update=options)
    generator = BaseModel(config).eval().generator_2d
    features, z = torch.rand(1, config.generator_2d.channels, 8, 8), torch.rand(2, 1, config.motion.z)
    fresh = [generator(features, one)[0] for one in z]
    assert torch.equal(fresh[0], fresh[1])
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    learned = [generator(features, one)[0] for one in z]
    assert torch.equal(learned[0], learned[1]) is not switched_on


@torch.no_grad()
def test_what_changed_of_the_expression_reaches_the_generator_once_it_is_learned(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    config = tiny_config.model_copy(update={"source_skip": False, "mirror_hidden": False})
    generator = BaseModel(config).eval().generator_2d
    features, z = torch.rand(1, config.generator_2d.channels, 8, 8), torch.rand(1, config.motion.z)
    changes = [torch.zeros_like(z), torch.rand_like(z)]
    fresh = [generator(features, z, change=change)[0] for change in changes]
    assert torch.equal(fresh[0], fresh[1])
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    learned = [generator(features, z, change=change)[0] for change in changes]
    assert not torch.equal(learned[0], learned[1])


@torch.no_grad()
def test_the_change_is_the_drivers_expression_less_the_sources(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = BaseModel(tiny_config).eval()
    source, driver = torch.rand(2, 1, 3, 32, 32)
    identity = model.encode(source)
    before = [model.render(identity, motion).image for motion in (identity.motion, model.motion(driver))]
    for change in model.generator_2d.changes:
        torch.nn.init.normal_(change.get_parameter("weight"))
    after = [model.render(identity, motion).image for motion in (identity.motion, model.motion(driver))]
    torch.testing.assert_close(after[0], before[0])  # as it was
    assert not torch.allclose(after[1], before[1])


def test_a_change_of_expression_without_an_expression_is_refused(tiny_config: ModelConfig) -> None:
    with pytest.raises(ValueError, match="switch that on"):
        ModelConfig.model_validate(tiny_config.model_dump() | {"expression_in_generator": False})
