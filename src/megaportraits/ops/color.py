"""Flat background colours."""

from __future__ import annotations

import torch
from torch import Tensor

KEY_COLORS = ((32 / 255, 224 / 255, 32 / 255), (32 / 255, 32 / 255, 224 / 255))
"""Green and blue, RGB in [0, 1]. At inference the source's background is the one less like the person's colours."""


def random_colors(batch: int, generator: torch.Generator, device: torch.device, *, keys: float = 0.0) -> Tensor:
    """Flat colours (B, 3, 1, 1) in [0, 1], uniform, or with probability `keys` near one of `KEY_COLORS`."""
    colors = torch.rand(batch, 3, 1, 1, generator=generator)
    if keys:
        key = torch.tensor(KEY_COLORS)[torch.randint(len(KEY_COLORS), (batch,), generator=generator)]
        near = (key[..., None, None] + 0.2 * (colors - 0.5)).clamp(0, 1)
        chosen = torch.rand(batch, 1, 1, 1, generator=generator) < keys
        colors = torch.where(chosen, near, colors)
    return colors.to(device)
