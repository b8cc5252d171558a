"""Checkpoints: one dict holds everything resumable, written so that a crash never costs the last good one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

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
        except (RuntimeError, EOFError, OSError):
            continue
    return None
