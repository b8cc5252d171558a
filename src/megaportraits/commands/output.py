"""Checks before the start of commands that write weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from megaportraits.media.files import plan_file
from megaportraits.models.storage import find_base


def check_weights_output(output: str, *, overwrite: bool, weights: Sequence[str]) -> Path:
    """Check the output path of base weights: its suffix, and that it is neither an existing file nor an input.

    Returns:
        The output file; if `output` is a folder, `base.safetensors` in it.

    Raises:
        MediaError: see `check_output`.
        WeightsError: no weights exist under one of the names or paths in `weights`.
    """
    inputs = [find_base(name) for name in weights]
    return plan_file(output, "base.safetensors", overwrite=overwrite, inputs=inputs, suffixes=(".safetensors",))
