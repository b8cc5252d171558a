"""What the training loop requires of a training stage and of a run's config."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from megaportraits.config import OptimConfig, RunConfig
from megaportraits.data.batches import TrainingBatch
from megaportraits.errors import TrainingError

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B", bound=TrainingBatch)
V = TypeVar("V", bound=TrainingBatch)
Losses = dict[str, Tensor]


class TrainingStage(nn.Module, ABC, Generic[M, B, V]):
    """One training step: losses of a batch of type `B`, and samples from a batch of type `V`.

    Every phase has its own optimizer. A phase trains the parameters of the submodule with the phase's name; the first
    phase trains all others.

    Attributes:
        phases: names of the phases of a step, in order.
        model: the network that is averaged and saved.
        file_name: name of the weights file in the run folder.
        validation_count: number of validation samples.
    """

    phases: tuple[str, ...]
    model: M
    file_name: str
    validation_count: int

    @abstractmethod
    def weights(self) -> dict[str, float]:
        """The weights of all losses that are on."""

    @abstractmethod
    def forward(self, phase: str, batch: B, step: int, generator: torch.Generator) -> Losses:
        """The losses of one phase, unweighted.

        Args:
            phase: one of `phases`; in a step they run in order.
            batch: the same in all phases of a step.
            step: number of the step, from 1.
            generator: on the CPU; all randomness of the phase comes from it, so that a step can be repeated.
        """

    @abstractmethod
    def sample(self, model: M, batch: V) -> tuple[Tensor | None, dict[str, float]]:
        """An image (3, H, W) in [0, 1] (or None) and validation numbers for a fixed batch."""

    @abstractmethod
    def save(self, path: Path, model: M, *, step: int) -> None:
        """Write the weights file."""


class _LoadingConfig(Protocol):
    @property
    def workers(self) -> int: ...


class TrainingConfig(Protocol):
    """The part of a run's config that the loop reads: every `Train...Config` of `megaportraits.config` has it."""

    @property
    def data(self) -> _LoadingConfig: ...
    @property
    def optim(self) -> OptimConfig: ...
    @property
    def run(self) -> RunConfig: ...
    def model_dump(self, *, mode: str = ...) -> dict[str, Any]:
        """The config as plain values."""


def phase_parameters(stage: TrainingStage[M, B, V]) -> dict[str, list[nn.Parameter]]:
    """The trainable parameters of every phase, in the stage's order."""
    own: dict[str, list[nn.Parameter]] = {phase: [] for phase in stage.phases}
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad:
            part = name.partition(".")[0]
            own[part if part in own else stage.phases[0]].append(parameter)
    return own


def freeze_others(model: nn.Module, parts: tuple[str, ...]) -> None:
    """Freeze all parts of a model but the named ones.

    Raises:
        TrainingError: the model does not have a named part.
    """
    known = [name for name, part in model.named_children() if any(True for _ in part.parameters())]
    if unknown := [name for name in parts if name not in known]:
        raise TrainingError(
            f"optim.parts names {', '.join(unknown)}, which the model does not have",
            fix=f"Choose from {', '.join(known)}.",
        )
    for name, part in model.named_children():
        part.requires_grad_(name in parts)
