"""Recomputing a part in the backward pass instead of keeping its activations: less memory, the same gradients."""

from __future__ import annotations

from contextlib import nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(part: nn.Module, x: Tensor) -> Tensor:
    """`part(x)`, whose activations the backward pass computes anew."""
    rewound = _Rewound(part)
    result: Tensor = checkpoint(part, x, use_reentrant=False, context_fn=lambda: (nullcontext(), rewound))
    return result


class _Rewound:
    """Inside, a part's buffers are what they were when this was made; afterwards they are again what they have become.

    A spectral norm's vectors move on with every pass in training. Recomputation has to start where the first pass did:
    else it divides by another norm, and its gradients are those of other weights.
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
