from __future__ import annotations

import torch
from torch import Tensor, nn

from megaportraits.baselines.base import Baseline
from megaportraits.config import BaselineModelConfig, ModelConfig
from megaportraits.evaluation.metrics.cost import cost_of_base, cost_of_baseline
from megaportraits.models.base import BaseModel


class OneConvolution(Baseline[Tensor, Tensor]):
    """1,000 x 100 parameters; encodes with one convolution of 1e9 multiply-adds, and renders with two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.config = BaselineModelConfig(image_size=100)
        self.convolution = nn.Conv2d(100, 1000, 1, bias=False)

    def encode(self, source: Tensor) -> Tensor:
        return self.convolution(source.new_zeros(1, 100, 100, 100))

    motion = encode

    def render(self, encoded: Tensor, motion: Tensor) -> Tensor:  # type: ignore[override]
        return self.encode(encoded)


def test_multiply_adds_count_once_and_driver_frames_include_their_motion() -> None:
    assert cost_of_baseline(OneConvolution()) == {
        "parameters": "0.10 M",
        "GMAC per source": "1.00",
        "GMAC per frame": "2.00",
    }


def test_the_cost_of_a_base_model_is_of_all_its_parameters(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = BaseModel(tiny_config).eval()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert cost_of_base(model)["parameters"] == f"{count / 1e6:.2f} M"
