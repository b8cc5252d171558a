"""`megaportraits weights pull|list|verify`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

weights_app = typer.Typer(help="Download, list and verify weights.", no_args_is_help=True)


@weights_app.command("pull")
def weights_pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Registered names; default: the networks that the program needs.")
    ] = None,
) -> None:
    """Download weights into the cache and verify them."""
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
    """List every registered file with its state, size and licence."""
    from megaportraits import weights

    typer.echo(f"Weights in {weights.cache_dir()}")
    for path in weights.shipped():
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        typer.echo(f"{path.parent.name}/{path.stem}: shipped, {size}, Apache-2.0; trained by this project")
    for weight in weights.WEIGHTS:
        state: str = weights.state(weight)
        if state == "absent" and not weight.obtainable:
            state = "by hand"
        size = f"{weight.size / 1e6:.1f} MB" if weight.size else "size unknown"
        # Lines, not a table: a terminal of 80 columns would truncate names and URLs.
        typer.echo(f"{weight.name}: {state}, {size}, {weight.licence}; {weight.purpose}")
        typer.echo(f"  {weight.url or weight.page}")


@weights_app.command("verify")
def weights_verify() -> None:
    """Verify the hashes of all shipped and cached files; exit code 1 if one is damaged."""
    from megaportraits import weights

    own = {f"{path.parent.name}/{path.stem}": weights.shipped_state(path) for path in weights.shipped()}
    for name, state in own.items():
        typer.echo(f"{name}: {'shipped' if state == 'present' else state}")
    states = {weight.name: weights.state(weight) for weight in weights.WEIGHTS}
    for name, state in states.items():
        if state != "absent":
            known = weights.lookup(name).sha256 is not None
            typer.echo(f"{name}: {state if known else 'present, without a registered hash'}")
    if "damaged" in {*own.values(), *states.values()}:
        raise typer.Exit(1)
