"""Neighbours in the batch of all processes: `roll(1)` where the batch lies spread over ranks, with its gradient.

The contrastive loss compares each sample with another one (s*, d* of eq. 6). In one process that is the sample before
it; here rank r's first sample gets the last one of rank r - 1, and rank 0's that of the last rank, so that it does not
matter how many processes a batch is spread over. One sample travels between neighbours, whatever their number.
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
    """How many processes share the batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def previous_sample(batch: Tensor) -> Tensor:
    """The sample before each one, (B, ...) like `batch`, around the batch of all processes; gradient flows back.

    All processes must call it, in the same order and with the same shapes.
    """
    if ranks() == 1:
        return batch.roll(1, 0)
    before: Tensor = _Shift.apply(batch[-1:].contiguous())
    return torch.cat([before, batch[:-1]])


def with_previous(batch: T) -> T:
    """A dataclass of tensors (B, ...), dataclasses and None, as one of 2 B: each sample, then the one before each."""
    return _map(batch, lambda value: torch.cat([value, previous_sample(value)]))


def share_of(count: Tensor) -> Tensor:
    """Weight that makes a mean over `count` of this process's samples its part of the mean over all processes'.

    Gradients are averaged over processes; where they mean over different numbers of samples, that average is not the
    mean over all samples until each is multiplied by count / mean count. 0 where no process has any.
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
    """Hand a tensor on to the next rank; its gradient comes back from there."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        return _exchange(mine, +1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _exchange(gradients[0].contiguous(), -1)


def _exchange(mine: Tensor, direction: int) -> Tensor:
    """Send to the rank `direction` further round, receive from the one on the other side."""
    rank, count = dist.get_rank(), ranks()
    received = torch.empty_like(mine)
    send = dist.P2POp(dist.isend, mine, (rank + direction) % count)
    receive = dist.P2POp(dist.irecv, received, (rank - direction) % count)
    for work in dist.batch_isend_irecv([send, receive]):
        work.wait()
    return received
