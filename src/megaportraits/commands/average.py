"""`megaportraits average`: a typed function, heavy imports inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megaportraits.errors import ConfigError


def average(
    parts: Annotated[
        list[str], typer.Argument(metavar="WEIGHTS=SHARE", help="Shipped names or .safetensors files, and shares.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The base model to write, a .safetensors file.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write the mean of base models' weights that were trained from the same start."""
    from megaportraits.media import check_output
    from megaportraits.models.storage import find_base
    from megaportraits.training.averaging import average as work

    if out.suffix != ".safetensors":
        raise ConfigError(f"--out: expected a .safetensors file, got {out}", fix="For example -o base.safetensors.")
    split = [_part(text) for text in parts]
    check_output(out, overwrite=overwrite, inputs=tuple(find_base(name) for name, _ in split))
    work(split, out)
    typer.echo(str(out))


def _part(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    try:
        return name, float(share)
    except ValueError:
        raise ConfigError(f"expected WEIGHTS=SHARE, got {text}", fix="For example run/base.safetensors=0.5.") from None
