"""`megaportraits live`: options to cameras, engines, backgrounds and screens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from megaportraits.live.screens import Screen


def live(
    student: Annotated[
        Path | None, typer.Option(help="A student: .safetensors of `distill`, or .onnx of `export student`.")
    ] = None,
    avatar: Annotated[str | None, typer.Option(help="Which of the student's avatars; default: its first.")] = None,
    source: Annotated[Path | None, typer.Option(help="Instead: a photograph, with the base model.")] = None,
    weights: Annotated[
        str, typer.Option(help="For --source: weights by name, a .safetensors file, or the folder of `export base`.")
    ] = "nano",
    camera: Annotated[str, typer.Option("--input", help="A webcam's number, or a video played at its speed.")] = "0",
    loop: Annotated[bool, typer.Option("--loop", help="Start a video again when it ends.")] = False,
    mirror: Annotated[bool, typer.Option("--mirror/--no-mirror", help="Flip the camera, as mirrors do.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Record to this video.")] = None,
    virtual_camera: Annotated[
        bool, typer.Option("--virtual-camera", help="Be a camera for other programs (needs pyvirtualcam).")
    ] = False,
    window: Annotated[bool, typer.Option("--window/--no-window", help="Show a window; q or Esc leaves.")] = True,
    whole: Annotated[bool, typer.Option("--whole", help="With --source: the whole photograph, not the crop.")] = False,
    color: Annotated[str, typer.Option(help="Background of a student, #RRGGBB.")] = "#00b140",
    size: Annotated[int, typer.Option(min=16, max=2048, help="Side of the head crop shown, pixels.")] = 256,
    fps: Annotated[float, typer.Option(min=1, max=240, help="Told to recordings and virtual cameras.")] = 25,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    runtime: Annotated[
        Literal["auto", "torch", "onnxruntime", "openvino"], typer.Option(help="auto: what is fastest here.")
    ] = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "int8"],
        typer.Option(help="auto: what is fastest here and gives the same picture."),
    ] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="Of the network; 0: what is fastest here.")] = 0,
    retune: Annotated[bool, typer.Option("--retune", help="Measure again what is fastest here.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing recording.")] = False,
) -> None:
    """Be somebody else before a camera: a student's avatar, or a photograph, moves like you, right now."""
    from megaportraits.live.backgrounds import flat, photo
    from megaportraits.live.cameras import open_camera
    from megaportraits.live.choice import Wish, choose_engine
    from megaportraits.live.loop import LiveOptions, run_live
    from megaportraits.pipeline import parse_color
    from megaportraits.pipeline.driver import HeadFollower

    background = parse_color(color)
    with ExitStack() as stack:
        screens = _open_screens(stack, output, virtual_camera, window, fps, overwrite)
        frames = open_camera(camera, loop=loop, mirror=mirror)
        wish = Wish(runtime, precision, threads, retune)
        chosen = choose_engine(student, avatar, source, weights, wish, say=typer.echo)
        if chosen.portrait is None:
            compose = flat(background, size)
        else:
            compose = photo(chosen.portrait, chosen.matting, size, whole=whole)
        follower = HeadFollower(chosen.analyzer, chosen.engine.size)
        status = stack.enter_context(_status())
        stats = run_live(
            frames,
            follower.look,
            chosen.engine,
            compose,
            screens,
            LiveOptions(seconds, lambda now: status(now.line())),
        )
    typer.echo(f"{stats.shown} pictures shown: {stats.line()}")
    if output is not None:
        typer.echo(str(output))


def _open_screens(
    stack: ExitStack, output: Path | None, virtual_camera: bool, window: bool, fps: float, overwrite: bool
) -> list[Screen]:
    """Everything asked for; a window only where one can be opened."""
    from megaportraits.live import screens

    opened: list[Screen] = []
    if output is not None:
        opened.append(stack.enter_context(screens.file(output, fps=fps, overwrite=overwrite)))
    if virtual_camera:
        opened.append(stack.enter_context(screens.virtual_camera(fps)))
    if window:
        problem = screens.window_problem()
        if problem is None:
            opened.append(stack.enter_context(screens.window()))
        elif not opened:
            typer.secho(f"No window: {problem}.", err=True)
            typer.secho("Going on without a picture, to measure. -o FILE records, --virtual-camera shows.", err=True)
    return opened


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """A line that changes in place, twice a second; nothing where the output is no terminal."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        yield lambda line: None
        return
    with Live("", console=console, refresh_per_second=2, transient=True) as line:
        yield line.update
