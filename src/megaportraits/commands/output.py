"""What commands that write weights check before they begin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from megaportraits.errors import ConfigError
from megaportraits.media import check_output
from megaportraits.media.files import output_file
from megaportraits.models.storage import find_base


def check_weights_output(output: str, *, overwrite: bool, weights: Sequence[str]) -> Path:
    """Refuse to write base weights to a file of another kind, or over one that is there or that is read.

    Returns:
        The file that is meant: in a folder `base.safetensors`.

    Raises:
        ConfigError: the file is no .safetensors.
        MediaError: see `check_output`.
        WeightsError: no such `weights`, names or files.
    """
    file = output_file(output, "base.safetensors")
    if file.suffix != ".safetensors":
        raise ConfigError(f"--output: expected a .safetensors file, got {file}", fix="For example -o base.safetensors.")
    return check_output(file, overwrite=overwrite, inputs=tuple(find_base(name) for name in weights))
