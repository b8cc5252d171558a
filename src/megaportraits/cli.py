"""The command line: one typed function per command, heavy imports inside the functions."""

from __future__ import annotations

import sys

import typer

from megaportraits.errors import MegaPortraitsError

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
