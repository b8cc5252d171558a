"""z in G_2D: nothing at first, something once learned, nothing where it is switched off."""

from __future__ import annotations

import pytest
import torch

from megaportraits.config import ModelConfig
from megaportraits.models.base import BaseModel


@torch.no_grad()
@pytest.mark.parametrize("switched_on", [True, False])
def test_z_reaches_the_generator_once_it_is_learned(tiny_config: ModelConfig, switched_on: bool) -> None:
    torch.manual_seed(0)
    config = tiny_config.model_copy(update={"expression_in_generator": switched_on, "source_skip": False})
    generator = BaseModel(config).eval().generator_2d
    features, z = torch.rand(1, config.generator_2d.channels, 8, 8), torch.rand(2, 1, config.motion.z)
    fresh = [generator(features, one)[0] for one in z]
    assert torch.equal(fresh[0], fresh[1])
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    learned = [generator(features, one)[0] for one in z]
    assert torch.equal(learned[0], learned[1]) is not switched_on
