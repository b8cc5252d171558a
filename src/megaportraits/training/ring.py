"""`roll(1)` over a batch that is distributed over processes, with gradients.

The contrastive loss compares each sample with another one (s*, d* of eq. 6): the previous sample in the batch. For the
first sample of rank r that is the last sample of rank r - 1, and for rank 0 that of the last rank. So the result does
not depend on the number of processes. Each process sends one sample to its neighbour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def ranks() -> int:
    """The number of processes that share the batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def previous_sample(batch: Tensor) -> Tensor:
    """The previous sample of every sample, (B, ...) like `batch`, cyclic over all processes; gradients flow back.

    All processes must call this in the same order and with the same shapes.
    """
    if ranks() == 1:
        return batch.roll(1, 0)
    before: Tensor = _Shift.apply(batch[-1:].contiguous())
    return torch.cat([before, batch[:-1]])


def with_previous(batch: T) -> T:
    """Extend a batch of B samples to 2 B: all samples, then the previous sample of each.

    `batch` is a dataclass of tensors (B, ...), of such dataclasses, and of None.
    """
    return _map(batch, lambda value: torch.cat([value, previous_sample(value)]))


def share_of(count: Tensor) -> Tensor:
    """The factor for a mean over `count` samples of this process, so that processes average to the mean of all samples.

    Gradients are averaged over processes. If these have different numbers of samples, each process must multiply its
    mean by count / mean count. The factor is 0 if no process has any sample.
    """
    count = count.detach().float()
    if ranks() == 1:
        return (count > 0).float()
    total = count.clone()
    dist.all_reduce(total)
    return count * ranks() / total.clamp_min(1)


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _map(getattr(value, f.name), change) for f in fields(value)})
    return value


class _Shift(torch.autograd.Function):
    """Send a tensor to the next rank; its gradient comes back from there."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        return _exchange(mine, +1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _exchange(gradients[0].contiguous(), -1)


def _exchange(mine: Tensor, direction: int) -> Tensor:
    """Send to the rank `direction` places ahead (cyclic), receive from the rank on the other side."""
    rank, count = dist.get_rank(), ranks()
    received = torch.empty_like(mine)
    send = dist.P2POp(dist.isend, mine, (rank + direction) % count)
    receive = dist.P2POp(dist.irecv, received, (rank - direction) % count)
    for work in dist.batch_isend_irecv([send, receive]):
        work.wait()
    return received
