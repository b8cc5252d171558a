"""Modulation of G_2D's features: z, and its difference from the source's z, scale and shift them. Ours.

A warp of a volume with cells of a centimetre can move lips, but lids close within one cell. Without these options
(`expression_in_generator`, `expression_change`) G_2D is the paper's: `Unmodulated` and `NoChange` have no parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from megaportraits.config import ModelConfig


class Modulation(nn.Module):
    """Scales and shifts each channel by a linear function of z, plus a `Change`; starts as the identity."""

    def __init__(self, z: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(z, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, z: Tensor, more: Tensor | None = None) -> Tensor:
        """Features x (B, C, H, W), z (B, n), and the output of a `Change` (B, 2 C) or None, to (B, C, H, W)."""
        by = self.linear(z) if more is None else self.linear(z) + more
        scale, shift = by.to(x.dtype)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(shift, x, 1 + scale)


class Unmodulated(nn.Module):
    """The identity, for models without `expression_in_generator`."""

    def forward(self, x: Tensor, z: Tensor, more: Tensor | None = None) -> Tensor:
        """As `Modulation`."""
        return x


class Change(nn.Linear):
    """Scales and shifts from the driver's z minus the source's z; initialised to zero."""

    def __init__(self, z: int, channels: int) -> None:
        super().__init__(z, 2 * channels, bias=False)
        nn.init.zeros_(self.weight)

    def forward(self, change: Tensor | None) -> Tensor | None:  # type: ignore[override]
        """(B, n) to (B, 2 C); None (no change) to None."""
        return None if change is None else super().forward(change)


class NoChange(nn.Module):
    """For models without `expression_change`: always None."""

    def forward(self, change: Tensor | None) -> Tensor | None:
        """As `Change`."""
        return None


def make_modulations(config: ModelConfig, widths: Sequence[int]) -> tuple[nn.ModuleList, nn.ModuleList]:
    """For features of each width a `Modulation` and a `Change`, or their replacements if they are switched off."""
    z = config.motion.expression_size
    modulations = (Modulation(z, n) if config.expression_in_generator else Unmodulated() for n in widths)
    changes = (Change(z, n) if config.expression_change else NoChange() for n in widths)
    return nn.ModuleList(modulations), nn.ModuleList(changes)
