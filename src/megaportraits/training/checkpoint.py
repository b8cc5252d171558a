"""Checkpoints: one dict with the whole state of a run, written atomically, so that a crash never damages older ones.

A checkpoint is a zip archive, as `torch.save` writes it, with a CRC-32 of every tensor. torch does not verify it on
loading; `read` does.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.optim.swa_utils import AveragedModel

from megaportraits.errors import TrainingError
from megaportraits.media.folders import whole_file
from megaportraits.reading import access, is_file, shown
from megaportraits.training.stage import B, M, TrainingStage, V

KEPT = "Free disk space and resume; the last checkpoint is intact."


def save(folder: Path, state: dict[str, Any], *, keep: int) -> Path:
    """Write `folder/step-NNNNNNNN.pt` atomically, then remove all but the newest `keep`.

    Raises:
        TrainingError: the disk is full or not writable; older checkpoints are untouched.
    """
    path = folder / f"step-{state['step']:08d}.pt"
    try:
        with whole_file(path) as file:
            torch.save(state, file)
    except OSError as error:
        raise TrainingError(f"cannot write checkpoint {path}: {error}", fix=KEPT) from error
    # Checkpoints of later steps are damaged: the run resumed from an earlier one. They do not count.
    for old in sorted(other for other in folder.glob("step-*.pt") if other.name <= path.name)[:-keep]:
        old.unlink()
    return path


def latest(folder: Path) -> dict[str, Any] | None:
    """The newest readable checkpoint of a folder, or None. Damaged ones are reported on stderr and skipped."""
    with access(folder, TrainingError):
        paths = sorted(folder.glob("step-*.pt"), reverse=True)
    for path in paths:
        try:
            return read(path)
        except TrainingError as error:
            Console(stderr=True).print(f"Left out: {error.message}", highlight=False, soft_wrap=True, markup=False)
    return None


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint and verify its checksums.

    Raises:
        TrainingError: the file cannot be read, is damaged, or is not a checkpoint.
    """
    fix = "Remove it; the run goes on from the one before."
    with access(path, TrainingError):
        try:
            _check_sums(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # zipfile, zlib and torch's unpickler raise many types for damaged bytes
            why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise TrainingError(f"{path} is not a readable checkpoint: {why}", fix=fix) from error
    if not isinstance(state, dict) or type(state.get("step")) is not int or state["step"] < 0:
        raise TrainingError(f"{path} is not a checkpoint: expected a dict with a step, got {shown(state)}", fix=fix)
    return dict(state)


def _check_sums(path: Path) -> None:
    """Verify the CRC-32 of every part of a checkpoint; ValueError if one is wrong, or parts are compressed."""
    with zipfile.ZipFile(path) as archive:
        if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
            raise ValueError("expected parts that are not compressed")  # torch writes none; a part could be huge
        if damaged := archive.testzip():
            raise ValueError(f"the checksum of {damaged} is wrong")


def to_resume(run: Path) -> dict[str, Any]:
    """The checkpoint from which the run in a folder is resumed.

    Raises:
        TrainingError: there is no run, or none of its checkpoints can be read.
    """
    state = latest(run / "checkpoints")
    if state is not None:
        return state
    if not is_file(run / "config.yaml", TrainingError):
        raise TrainingError(
            f"{run} holds no run to resume", fix="Check --out, or leave out --resume to start a run there."
        )
    raise TrainingError(
        f"{run} holds a run, but no checkpoint in {run / 'checkpoints'} can be read",
        fix="Restore one from a copy, or start again with another --out; weights that were written serve as --init.",
    )


def restore(state: dict[str, Any], stage: TrainingStage[M, B, V], average: AveragedModel) -> int:
    """Load a checkpoint's networks; returns its step. Networks of phases that it does not have keep their weights."""
    first, *later = stage.phases
    saved = optimizer_states(state, first)
    new = tuple(f"{phase}." for phase in later if phase not in saved)
    fresh = {k: v for k, v in stage.state_dict().items() if k.startswith(new)} if new else {}
    stage.load_state_dict({**fresh, **state["stage"]})
    average.load_state_dict(state["average"])
    return int(state["step"])


def optimizer_states(state: dict[str, Any], first: str) -> dict[str, Any]:
    """The states of a checkpoint's optimizers by phase; `first` is the stage's first phase."""
    # Checkpoints of version 0.1 have one optimizer, of the only phase.
    return dict(state["optimizers"]) if "optimizers" in state else {first: state.get("optimizer")}


@contextmanager
def checkpoint_mismatch_errors() -> Iterator[None]:
    """Turn the exceptions of loading a state that does not fit the model into a TrainingError."""
    try:
        yield
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"the checkpoint does not fit this configuration: {error}",
            fix="Resume with the config the run was started with.",
        ) from error
