"""`megaportraits average`. Heavy packages are imported inside the function."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from megaportraits.errors import ConfigError


def average(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="WEIGHTS=SHARE", help="Shipped names or .safetensors files, each with its share of the mean."
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="The base model to write, a .safetensors file.")],
    module: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE=SHARE,SHARE,...",
            help="Other shares for one module, in the order of the weights; several times: for several modules.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write the weighted mean of base models that were trained from the same initial weights."""
    from megaportraits.commands.output import check_weights_output
    from megaportraits.training.averaging import average as work

    split = [_part(text) for text in parts]
    file = check_weights_output(output, overwrite=overwrite, weights=[name for name, _ in split])
    work(split, file, modules=dict(_module(text) for text in module or []), overwrite=overwrite)
    typer.echo(str(file))


def _part(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    with contextlib.suppress(ValueError):
        if name:
            return name, float(share)
    raise ConfigError(f"expected WEIGHTS=SHARE, got {text}", fix="For example run/base.safetensors=0.5.")


def _module(text: str) -> tuple[str, list[float]]:
    name, _, shares = text.partition("=")
    with contextlib.suppress(ValueError):
        if name:
            return name, [float(share) for share in shares.split(",")]
    raise ConfigError(f"expected MODULE=SHARE,SHARE,..., got {text}", fix="For example generator_2d.output=0.9,0.1.")
