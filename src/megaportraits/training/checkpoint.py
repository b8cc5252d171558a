"""Checkpoints: one dict holds everything resumable, written so that a crash never costs the last good one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from megaportraits.errors import TrainingError


def save(folder: Path, state: dict[str, Any], *, keep: int) -> Path:
    """Write `folder/step-NNNNNNNN.pt` atomically, then remove all but the newest `keep`.

    Raises:
        TrainingError: the disk is full or not writable; older checkpoints are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{state['step']:08d}.pt"
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise TrainingError(
            f"cannot write checkpoint {path}: {error}",
            fix="Free disk space and resume; the last checkpoint is intact.",
        ) from error
    for old in sorted(folder.glob("step-*.pt"))[:-keep]:
        old.unlink()
    return path


def latest(folder: Path) -> dict[str, Any] | None:
    """The newest readable checkpoint of a folder; torn files are passed over. None if there is none."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except (RuntimeError, EOFError, OSError, LookupError, ValueError, UnpicklingError):
            continue
    return None


def to_resume(run: Path) -> dict[str, Any]:
    """The checkpoint that the run in a folder goes on from.

    Raises:
        TrainingError: there is no run, or none of its checkpoints can be read.
    """
    state = latest(run / "checkpoints")
    if state is not None:
        return state
    if not (run / "config.yaml").exists():
        raise TrainingError(
            f"{run} holds no run to go on with", fix="Check --out, or leave out --resume to start a run there."
        )
    raise TrainingError(
        f"{run} holds a run, but no checkpoint in {run / 'checkpoints'} can be read",
        fix="Restore one from a copy, or start again with another --out; weights that were written serve as --init.",
    )


def restore(state: dict[str, Any], stage: Any, average: AveragedModel) -> int:
    """Load a checkpoint's networks; a phase that it does not know starts afresh. Returns the step."""
    first, *later = stage.phases
    saved = optimizer_states(state, first)
    new = tuple(f"{phase}." for phase in later if phase not in saved)
    fresh = {k: v for k, v in stage.state_dict().items() if k.startswith(new)} if new else {}
    stage.load_state_dict({**fresh, **state["stage"]})
    average.load_state_dict(state["average"])
    return int(state["step"])


def optimizer_states(state: dict[str, Any], first: str) -> dict[str, Any]:
    """A checkpoint's optimizers by phase; `first` is the stage's first one."""
    # Checkpoints of version 0.1 held the one optimizer of the one phase there was.
    return dict(state["optimizers"]) if "optimizers" in state else {first: state.get("optimizer")}


@contextmanager
def told_if_it_does_not_fit() -> Iterator[None]:
    """Inside, a state that is not this model's becomes a TrainingError."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"the checkpoint does not fit this configuration: {error}",
            fix="Resume with the config the run was started with.",
        ) from error
