"""Activation checkpointing: recompute a module in the backward pass, for less memory and the same gradients."""

from __future__ import annotations

from contextlib import nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(part: nn.Module, x: Tensor) -> Tensor:
    """`part(x)`; the backward pass recomputes its activations."""
    rewound = _Rewound(part)
    result: Tensor = checkpoint(part, x, use_reentrant=False, context_fn=lambda: (nullcontext(), rewound))
    return result


class _Rewound:
    """Context that restores a module's buffers to their values at construction, and undoes that on exit.

    In training every forward pass updates the vectors of a spectral norm. The recomputation must start from the same
    vectors as the first pass. Otherwise it divides by another norm and gives gradients for other weights.
    """

    def __init__(self, part: nn.Module) -> None:
        self.buffers = list(part.buffers())
        self.before = [buffer.clone() for buffer in self.buffers]
        self.after: list[Tensor] = []

    def __enter__(self) -> None:
        self.after = [buffer.clone() for buffer in self.buffers]
        self._set(self.before)

    def __exit__(self, *_: object) -> None:
        self._set(self.after)

    def _set(self, values: list[Tensor]) -> None:
        for buffer, value in zip(self.buffers, values, strict=True):
            buffer.copy_(value)
