"""The command line program: assembles the commands of `megaportraits.commands`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from megaportraits import __version__
from megaportraits.commands.animate import animate
from megaportraits.commands.average import average
from megaportraits.commands.calibrate import calibrate
from megaportraits.commands.credentials import credentials_app
from megaportraits.commands.demo import demo
from megaportraits.commands.enhancement import evaluate_hr
from megaportraits.commands.evaluation import ablate, evaluate
from megaportraits.commands.export import export_app
from megaportraits.commands.gaze_teacher import gaze_teacher
from megaportraits.commands.importing import import_app
from megaportraits.commands.index import index
from megaportraits.commands.live import live
from megaportraits.commands.pairs import pairs
from megaportraits.commands.prepare import prepare
from megaportraits.commands.reenactment import reenact
from megaportraits.commands.reference import reference
from megaportraits.commands.student import distill, student_app
from megaportraits.commands.study import study_app
from megaportraits.commands.synth import synth, synth_driver, synth_head, synth_portrait
from megaportraits.commands.train import train_app
from megaportraits.commands.volume import volume
from megaportraits.commands.web import web
from megaportraits.commands.weights import weights_app
from megaportraits.errors import MegaPortraitsError

app = typer.Typer(name="megaportraits", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(train_app, name="train")
app.add_typer(import_app, name="import")
app.add_typer(export_app, name="export")
app.add_typer(study_app, name="study")
app.add_typer(student_app, name="student")
app.add_typer(weights_app, name="weights")
app.add_typer(credentials_app, name="credentials")
student_app.command("reenact")(reenact)
app.command()(animate)
app.command()(demo)
app.command()(prepare)
app.command()(index)
app.command("gaze-teacher")(gaze_teacher)
app.command()(synth)
app.command("synth-head")(synth_head)
app.command("synth-driver")(synth_driver)
app.command("synth-portrait")(synth_portrait)
app.command()(live)
app.command()(web)
app.command()(pairs)
app.command()(evaluate)
app.command()(reference)
app.command()(ablate)
app.command("evaluate-hr")(evaluate_hr)
app.command()(distill)
app.command()(calibrate)
app.command()(average)
app.command()(volume)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Animate a portrait photograph with the motion of a video."""


@app.command()
def version() -> None:
    """Print the version."""
    _print_version(True)


def main() -> None:
    """Run the program. Expected errors are printed as one message, with exit code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` and service managers stop a run like Ctrl-C
    # Use huge pages for image memory: faults on small pages cost as much time as the layer that fills them.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        app()
    except MegaPortraitsError as error:
        typer.secho(f"Error: {error.message}", fg="red", err=True)
        if error.fix:
            typer.secho(f"  {error.fix}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # not an error of a user's file
            raise
        typer.secho(f"Error: {error.filename}: {error.strerror or error}", fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("Stopped.", err=True)
        sys.exit(130)
