"""What commands that write weights check before they begin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from megaportraits.errors import ConfigError
from megaportraits.media import check_output
from megaportraits.models.storage import find_base


def check_weights_output(output: Path, *, overwrite: bool, weights: Sequence[str]) -> None:
    """Refuse to write base weights to a file of another kind, or over one that is there or that is read.

    Raises:
        ConfigError: the file is no .safetensors.
        MediaError: see `check_output`.
        WeightsError: no such `weights`, names or files.
    """
    if output.suffix != ".safetensors":
        raise ConfigError(
            f"--output: expected a .safetensors file, got {output}", fix="For example -o base.safetensors."
        )
    check_output(output, overwrite=overwrite, inputs=tuple(find_base(name) for name in weights))
