"""The command line: one typed function per command, heavy imports inside the functions."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megaportraits import __version__
from megaportraits.commands.animate import animate
from megaportraits.commands.average import average
from megaportraits.commands.calibrate import calibrate
from megaportraits.commands.enhancement import evaluate_hr
from megaportraits.commands.evaluation import ablate, evaluate, pairs
from megaportraits.commands.progress import frame_progress
from megaportraits.commands.reenactment import reenact
from megaportraits.commands.reference import reference
from megaportraits.commands.student import distill, student_app
from megaportraits.errors import ConfigError, MegaPortraitsError
from megaportraits.export.command import export_app
from megaportraits.live.command import live
from megaportraits.pipeline.options import AnimateOptions, MotionMode
from megaportraits.prepare.command import prepare
from megaportraits.training.command import train_app
from megaportraits.web.command import web
from megaportraits.web.study_command import study_app

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_Head = Annotated[Path, typer.Option(help="ICT-FaceKit: packed .npz or its FaceXModel folder.")]
_Person = Annotated[int, typer.Option(help="Number of the procedural person.")]

app = typer.Typer(name="megaportraits", no_args_is_help=True, pretty_exceptions_enable=False)
weights_app = typer.Typer(help="Get, list and verify weights.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(export_app, name="export")
app.add_typer(study_app, name="study")
app.add_typer(student_app, name="student")
app.add_typer(weights_app, name="weights")
student_app.command("reenact")(reenact)
app.command()(animate)
app.command()(prepare)
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
    """One photograph and one video in, the person in the photograph moving like the video out."""


@app.command()
def version() -> None:
    """Print the version."""
    _print_version(True)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    weights: Annotated[str, typer.Option(help="Shipped weights by name, or a .safetensors file.")] = "nano",
    motion: Annotated[MotionMode, typer.Option(help="As for `animate`.")] = MotionMode.ABSOLUTE,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo there.")] = False,
) -> None:
    """Animate a bundled photograph with a bundled driver: what this program does, without any file of yours."""
    from megaportraits.pipeline import Avatar
    from megaportraits.pipeline.demo import plan_demo, run_demo

    plan_demo(out, overwrite=overwrite)
    avatar = Avatar.from_pretrained(weights, device=device)
    with frame_progress("Animating") as advance:
        files = run_demo(avatar, out, AnimateOptions(motion=motion), overwrite=overwrite, progress=advance)
    typer.echo(f"{files.result}: the photograph, moving")
    typer.echo(f"{files.side_by_side}: source, driver and result in a row")
    typer.echo(f"{files.contact}: a picture of both")


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
        # Lines, not a table: a terminal of 80 columns would shorten names and addresses.
        typer.echo(f"{weight.name}: {state}, {size}, {weight.licence}; {weight.purpose}")
        typer.echo(f"  {weight.url or weight.page}")


@weights_app.command("verify")
def weights_verify() -> None:
    """Hash every shipped and every cached file; exit code 1 when one is damaged."""
    from megaportraits import weights

    own = {f"{path.parent.name}/{path.stem}": weights.shipped_state(path) for path in weights.shipped()}
    for name, state in own.items():
        typer.echo(f"{name}: {'shipped' if state == 'present' else state}")
    states = {weight.name: weights.state(weight) for weight in weights.WEIGHTS}
    for name, state in states.items():
        if state != "absent":
            known = weights.lookup(name).sha256 is not None
            typer.echo(f"{name}: {state if known else 'present, no registered hash to compare'}")
    if "damaged" in {*own.values(), *states.values()}:
        raise typer.Exit(1)


@app.command()
def synth(
    head: _Head,
    out: Annotated[Path, typer.Option(help="Folder to fill; an unfinished run of the same settings goes on.")],
    portraits: Annotated[
        Path | None, typer.Option(help="Photographs, one person each; none: procedural heads only.")
    ] = None,
    clips: Annotated[int, typer.Option(help="Training clips; validation gets 3 % on top.")] = 3000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    seed: Annotated[int, typer.Option(help="Of everything random; the result does not depend on --workers.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels along each side of a frame.")] = 128,
    frames: Annotated[int, typer.Option(help="Frames of a clip.")] = 8,
    group: Annotated[int, typer.Option(help="People who do the same motions.")] = 4,
    lifted_share: Annotated[
        float | None, typer.Option(help="Share of clips from photographs, 0 to 1. [0.8; 1 with --photographs]")
    ] = None,
    grey_share: Annotated[float, typer.Option(help="Share of black and white photographs among them.")] = 0.25,
    coords: Annotated[bool, typer.Option(help="Store surface maps, which supervise the warps.")] = True,
    measure: Annotated[
        bool, typer.Option("--measure", help="Store measured blendshapes, which correct z and may join it.")
    ] = False,
    photographs: Annotated[
        bool,
        typer.Option(
            "--photographs", help="Frame 0 of each clip is the photograph itself, the training target; no other clips."
        ),
    ] = False,
) -> None:
    """Make labelled training clips from photographs and a morphable head; Ctrl-C leaves, the same line goes on."""
    from megaportraits.synth.generate import generate
    from megaportraits.synth.plan import SynthSettings
    from megaportraits.synth.show import shard_progress

    if photographs and portraits is None:
        raise ConfigError("--photographs needs --portraits", fix="Name the folder of photographs.")
    share = (1.0 if photographs else 0.8) if lifted_share is None else lifted_share
    settings = SynthSettings(
        portraits=portraits,
        head=head,
        clips=clips,
        seed=seed,
        size=size,
        frames=frames,
        group=group,
        lifted_share=share if portraits else 0.0,
        grey_share=grey_share,
        coords=coords,
        measure=measure,
        photographs=photographs,
    )
    with shard_progress() as on_progress:
        report = generate(settings, out, workers=workers, on_progress=on_progress)
    typer.echo(f"{report['clips']} clips of {frames} frames in {out}, see report.json and contact_sheet.png")


@app.command("synth-head")
def synth_head(
    source: Annotated[Path, typer.Argument(help="The FaceXModel folder of ICT-FaceKit.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The packed .npz to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Pack ICT-FaceKit and find which of its vertices MediaPipe's landmarks mean; `synth` needs both to lift photos."""
    from megaportraits.media.files import output_file
    from megaportraits.synth.correspondence import pack_head

    file = output_file(output, "head.npz")
    found = pack_head(source, file, overwrite=overwrite)
    typer.echo(f"{file}: {found} of 468 landmarks found")


@app.command("synth-driver")
def synth_driver(
    head: _Head,
    output: Annotated[str, typer.Option("--output", "-o", help="The .mp4 to write.")],
    seconds: Annotated[float, typer.Option(help="Length.")] = 4.0,
    size: Annotated[int, typer.Option(help="Pixels along each side.")] = 256,
    person: _Person = 82,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Render a talking procedural head: the demo's driver, which nobody's rights stand against."""
    from megaportraits.media.files import output_file
    from megaportraits.synth.demo import render_driver

    file = output_file(output, "driver.mp4")
    render_driver(head, file, seconds=seconds, size=size, person=person, overwrite=overwrite)
    typer.echo(str(file))


@app.command("synth-portrait")
def synth_portrait(
    head: _Head,
    output: Annotated[str, typer.Option("--output", "-o", help="The picture to write.")],
    size: Annotated[int, typer.Option(help="Pixels along each side.")] = 448,
    person: _Person = 82,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Render a procedural person at rest: a photograph to try things with, which shows nobody."""
    from megaportraits.media.files import output_file
    from megaportraits.synth.demo import render_portrait

    file = output_file(output, "portrait.png")
    render_portrait(head, file, size=size, person=person, overwrite=overwrite)
    typer.echo(str(file))


def main() -> None:
    """Run the program; expected errors become one clear message and exit code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` and service managers end a run as Ctrl-C does
    try:
        app()
    except MegaPortraitsError as error:
        typer.secho(f"Error: {error.message}", fg="red", err=True)
        if error.fix:
            typer.secho(f"  {error.fix}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # nothing about a file of the user's
            raise
        typer.secho(f"Error: {error.filename}: {error.strerror or error}", fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("Stopped.", err=True)
        sys.exit(130)
