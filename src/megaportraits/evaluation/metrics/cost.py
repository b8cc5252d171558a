"""What models cost: parameters, and multiply-adds of convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from megaportraits.baselines.base import Baseline
from megaportraits.models.base import BaseModel
from megaportraits.models.enhancer import PictureEnhancer
from megaportraits.models.motion import infer_motion

T = TypeVar("T")


def cost_of_baseline(model: Baseline[Any, Any]) -> dict[str, str]:
    """The cost of a trained baseline, as text for a report."""
    image = _blank(model, 3, model.config.image_size)
    return _cost([model], lambda: model.encode(image), lambda source: model.render(source, model.motion(image)))


def cost_of_base(model: BaseModel, enhancer: PictureEnhancer | None = None) -> dict[str, str]:
    """The cost of a base model in float32, with the enhancer of its images if there is one, as text for a report."""
    size = model.config.image_size
    image = _blank(model, 3, size)

    def frame(source: Any) -> None:
        model.render(source, infer_motion(model, image))
        if enhancer is not None:
            channels = 4 if enhancer.config.matte else 3
            fine = _blank(model, channels, 2 * size) if enhancer.config.source_skip else None
            enhancer(_blank(model, channels, size), fine)

    return _cost([model] if enhancer is None else [model, enhancer], lambda: model.encode(image), frame)


def _blank(model: nn.Module, channels: int, size: int) -> Tensor:
    return torch.zeros(1, channels, size, size, device=next(model.parameters()).device)


def _cost(models: Sequence[nn.Module], source: Callable[[], T], frame: Callable[[T], object]) -> dict[str, str]:
    parameters = sum(parameter.numel() for model in models for parameter in model.parameters())
    with torch.no_grad():
        with FlopCounterMode(display=False) as once:
            encoded = source()
        with FlopCounterMode(display=False) as each:
            frame(encoded)
    return {
        "parameters": f"{parameters / 1e6:.2f} M",
        "GMAC per source": f"{once.get_total_flops() / 2e9:.2f}",
        "GMAC per frame": f"{each.get_total_flops() / 2e9:.2f}",
    }
