"""Learning-rate schedules and the averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from megaportraits.config import OptimConfig

ONE_CYCLE_START, ONE_CYCLE_END = 25.0, 1e4
"""The first rate is the highest / 25, the last the first / 10^4 (Smith, 2018; torch's `OneCycleLR`)."""


def learning_rate(optim: OptimConfig, step: int) -> float:
    """The rate of step `step`, counted from 0: the config's schedule as a function, so that nothing has to be resumed.

    - "cosine": linear warm-up, then a cosine from `learning_rate` to `final_learning_rate` (4.1).
    - "one-cycle": a cosine up to `learning_rate` in the first `pct_start` of the steps, a cosine down after (B.5).
    """
    if optim.schedule == "one-cycle":
        return _one_cycle(optim, step)
    if step < optim.warmup_steps:
        return optim.learning_rate * (step + 1) / optim.warmup_steps
    progress = (step - optim.warmup_steps) / max(1, optim.steps - optim.warmup_steps)
    return _cosine(optim.learning_rate, optim.final_learning_rate, progress)


def _one_cycle(optim: OptimConfig, step: int) -> float:
    first = optim.learning_rate / ONE_CYCLE_START
    top = optim.pct_start * optim.steps - 1
    if step < top:  # at the top the way down begins: where it lies at step 0 there is no way up
        return _cosine(first, optim.learning_rate, step / top)
    return _cosine(optim.learning_rate, first / ONE_CYCLE_END, (step - top) / (optim.steps - 1 - top))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmed_ema(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An exponential moving average whose decay rises as (1 + n) / (10 + n), so that it forgets the random start."""

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        n = int(count)
        keep = min(decay, (1 + n) / (10 + n))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value.to(mean), 1 - keep)

    return update
