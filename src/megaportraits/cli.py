"""The command line: one typed function per command, heavy imports inside the functions."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from megaportraits.errors import MegaPortraitsError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

app = typer.Typer(
    name="megaportraits",
    help="One photograph and one video in, the person in the photograph moving like the video out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train a stage.", no_args_is_help=True)
weights_app = typer.Typer(help="Get, list and verify weights.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(weights_app, name="weights")


@app.command()
def version() -> None:
    """Print the version."""
    from megaportraits import __version__

    typer.echo(__version__)


@weights_app.command("pull")
def weights_pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Registered names; none: what the program runs with.")
    ] = None,
) -> None:
    """Fetch weights into the cache and verify them."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from megaportraits import weights

    chosen = [weights.lookup(name) for name in names or [w.name for w in weights.WEIGHTS if w.default]]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[source]}"),
    )
    with Progress(*columns) as bar:
        for weight in chosen:
            task = bar.add_task(weight.name, total=weight.size, source="")
            advance = partial(_advance, bar, task)
            path = weights.fetch(weight.name, progress=advance)
            bar.update(task, total=path.stat().st_size, completed=path.stat().st_size)
    typer.echo(f"{len(chosen)} verified in {weights.cache_dir()}")


def _advance(bar: Progress, task: TaskID, source: str, received: int) -> None:
    bar.update(task, completed=received, source=source)


@weights_app.command("list")
def weights_list() -> None:
    """Show every registered file: present or not, obtainable or not, licence."""
    from rich.console import Console
    from rich.table import Table

    from megaportraits import weights

    table = Table(
        "name", "state", "size", "licence", "purpose", "from", title=f"Weights in {weights.cache_dir()}"
    )
    for path in weights.shipped():
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        table.add_row(
            f"{path.parent.name}/{path.stem}", "[green]shipped", size, "Apache-2.0", "this project", "package"
        )
    for weight in weights.WEIGHTS:
        state = weights.state(weight)
        shown = {"present": "[green]present", "damaged": "[red]damaged", "absent": "absent"}[state]
        if state == "absent" and not weight.obtainable:
            shown = "[yellow]by hand"
        size = f"{weight.size / 1e6:.1f} MB" if weight.size else "?"
        table.add_row(weight.name, shown, size, weight.licence, weight.purpose, weight.url or weight.page)
    Console().print(table)


@weights_app.command("verify")
def weights_verify() -> None:
    """Hash every cached file; exit code 1 when one is damaged."""
    from megaportraits import weights

    states = {weight.name: weights.state(weight) for weight in weights.WEIGHTS}
    for name, state in states.items():
        if state != "absent":
            known = weights.lookup(name).sha256 is not None
            typer.echo(f"{name}: {state if known else 'present, no registered hash to compare'}")
    if "damaged" in states.values():
        raise typer.Exit(1)


def main() -> None:
    """Run the program; expected errors become one clear message and exit code 1."""
    try:
        app()
    except MegaPortraitsError as error:
        typer.secho(f"Error: {error.message}", fg="red", err=True)
        if error.fix:
            typer.secho(f"  {error.fix}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("Stopped.", err=True)
        sys.exit(130)
