"""`megaportraits import author`: convert the first author's public checkpoint."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

import_app = typer.Typer(help="Import weights of other programs.", no_args_is_help=True)


@import_app.callback()
def options() -> None:
    """Import weights of other programs."""


@import_app.command("author")
def author(
    file: Annotated[Path, typer.Argument(help="The base model of EMOPortraits' release, a .pth file; not changed.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="The base model to write, as a start for training; without it, only the table is printed.",
        ),
    ] = None,
    config: Annotated[
        str, typer.Option(help="The config of the training that follows: paper-512, paper-256 or a YAML file.")
    ] = "paper-512",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Convert the author's public checkpoint: list its tensors with and without a counterpart in our model, and write
    those with one.
    """
    from megaportraits.commands.output import check_weights_output
    from megaportraits.config import TrainBaseConfig, load_config
    from megaportraits.models.author import NONE, SAME, SHAPE, START, import_author
    from megaportraits.models.author_file import read_author
    from megaportraits.models.storage import save_base
    from megaportraits.weights import sha256_of

    out = None if output is None else check_weights_output(output, overwrite=overwrite, weights=())
    like = load_config(TrainBaseConfig, config).model
    found = import_author(read_author(file), like, str(file))
    for line in found.table:
        ours = f" -> {line.ours}" if line.ours else ""
        why = f": {line.reason}" if line.reason else ""
        typer.echo(f"{line.status:14}  {line.theirs}{ours}, {line.numbers / 1e6:.2f} M{why}")
    sums = {status: found.numbers(status) / 1e6 for status in (SAME, START, SHAPE, NONE)}
    typer.echo("; ".join(f"{status}: {millions:.1f} M" for status, millions in sums.items()))
    typer.echo(f"fresh here: {', '.join(found.fresh)}")
    if out is None:
        return
    notes = {"imported": file.name, "imported_sha256": sha256_of(file), "fresh": ", ".join(found.fresh)}
    save_base(out, found.model, notes=notes, overwrite=overwrite)
    typer.echo(f"{out}: a start for training, not a model to animate with: its motion encoder and e_s are untrained.")
    changed = [
        f"--set {shlex.quote(f'model.{name}={json.dumps(value)}')}"
        for name, value in _differing(like.model_dump(), found.model.config.model_dump())
    ]
    command = f"megaportraits train base --config {config} --init {out} --head-pose HEAD_POSE --data DATA --out RUN"
    typer.echo(" ".join([command, *changed]))


def _differing(before: dict[str, object], after: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    """Values that differ between two configs, by dotted names; the model's name is left out."""
    found: list[tuple[str, object]] = []
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            found += _differing(old, value, f"{prefix}{key}.")
        elif value != old and prefix + key != "name":
            found.append((prefix + key, value))
    return found
