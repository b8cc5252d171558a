"""Checks before the start of commands that write weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from megaportraits.errors import ConfigError
from megaportraits.media import check_output
from megaportraits.media.files import output_file
from megaportraits.models.storage import find_base


def check_weights_output(output: str, *, overwrite: bool, weights: Sequence[str]) -> Path:
    """Check the output path of base weights: its suffix, and that it is neither an existing file nor an input.

    Returns:
        The output file; if `output` is a folder, `base.safetensors` in it.

    Raises:
        ConfigError: the file is not a .safetensors file.
        MediaError: see `check_output`.
        WeightsError: no weights exist under one of the names or paths in `weights`.
    """
    file = output_file(output, "base.safetensors")
    if file.suffix != ".safetensors":
        raise ConfigError(f"--output: expected a .safetensors file, got {file}", fix="For example -o base.safetensors.")
    return check_output(file, overwrite=overwrite, inputs=tuple(find_base(name) for name in weights))
