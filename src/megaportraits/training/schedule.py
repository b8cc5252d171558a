"""Learning-rate schedules and the averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from megaportraits.config import OptimConfig

ONE_CYCLE_START, ONE_CYCLE_END = 25.0, 1e4
"""The first rate is the highest one / 25; the last rate is the first one / 10^4 (Smith, 2018; torch's `OneCycleLR`)."""


def learning_rate(optim: OptimConfig, step: int) -> float:
    """The learning rate of step `step`, counted from 0. It is a pure function, so that a schedule has no state.

    - "cosine": linear warm-up, then a cosine from `learning_rate` to `final_learning_rate` (4.1).
    - "one-cycle": a cosine up to `learning_rate` in the first `pct_start` of the steps, then a cosine down (B.5).
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
    if step < top:  # the step `top` itself belongs to the descent, so with top <= 0 there is no ascent
        return _cosine(first, optim.learning_rate, step / top)
    return _cosine(optim.learning_rate, first / ONE_CYCLE_END, (step - top) / (optim.steps - 1 - top))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmed_ema(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An exponential moving average with the decay min(decay, (1 + n) / (10 + n)) at update n.

    With the lower decay at the start, the average contains little of the random initial weights.
    """

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        n = int(count)
        keep = min(decay, (1 + n) / (10 + n))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value.to(mean), 1 - keep)

    return update
