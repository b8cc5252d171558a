from __future__ import annotations

import torch

from megaportraits.config import ModelConfig
from megaportraits.models.base import BaseModel
from megaportraits.nn.blocks import StandardizedConv2d, StandardizedConv3d, fold_weight_standardization


def test_folding_changes_no_output_and_leaves_nothing_to_standardise(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = BaseModel(tiny_config).eval().requires_grad_(False)
    source, driver = torch.rand(2, 1, 3, 32, 32)
    before = model(source, driver).image
    assert any(isinstance(m, (StandardizedConv2d, StandardizedConv3d)) for m in model.modules())
    names = list(model.state_dict())
    fold_weight_standardization(model)
    assert not any(isinstance(m, (StandardizedConv2d, StandardizedConv3d)) for m in model.modules())
    assert list(model.state_dict()) == names
    assert not any(m.training or p.requires_grad for m in model.modules() for p in m.parameters())
    torch.testing.assert_close(model(source, driver).image, before, rtol=0, atol=0)
