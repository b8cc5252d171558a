"""`megaportraits live`: set up camera, engine, background and screens from the options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megaportraits.choices import LivePrecision, RuntimeChoice
from megaportraits.commands.credentials import CertificateOption, KeyOption, TimestampsOption, open_credentials
from megaportraits.errors import ConfigError
from megaportraits.pipeline.options import KEY_GREEN, MotionMode, MotionOptions, ScaleFrom, parse_color

if TYPE_CHECKING:
    from megaportraits.live.choice import EngineChoice
    from megaportraits.live.screens import Screen
    from megaportraits.media.staging import Sign
    from megaportraits.pipeline.driver import HeadFollower, HeadView


def live(
    student: Annotated[
        str | None,
        typer.Option(help="A student: nano, a .safetensors file of `distill`, or an .onnx file of `export student`."),
    ] = None,
    avatar: Annotated[str | None, typer.Option(help="Name of the student's avatar; default: its first.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="A photograph, animated by the base model, in place of --student.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="For --source: weights by name, a .safetensors file, or the folder of `export base`.")
    ] = "nano",
    face: Annotated[
        int | None,
        typer.Option(
            min=1, help="Which face of the photograph: its number from left to right, from 1. Default: the largest."
        ),
    ] = None,
    motion: Annotated[
        MotionMode,
        typer.Option(
            help="With --source: see `animate`. The first frame with a face is the neutral frame; key n sets a new one."
        ),
    ] = MotionMode.ABSOLUTE,
    scale_from: Annotated[
        ScaleFrom, typer.Option(help="With --source: which image sets the head's size.")
    ] = ScaleFrom.DRIVER,
    camera: Annotated[
        str, typer.Option("--input", help="A webcam's number, or a video, played at its own speed.")
    ] = "0",
    loop: Annotated[bool, typer.Option("--loop", help="Restart a video when it ends.")] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror/--no-mirror", help="Flip the camera image horizontally, as a mirror does.")
    ] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Record to this video file, with the sound of --input.")
    ] = None,
    virtual_camera: Annotated[
        bool, typer.Option("--virtual-camera", help="Provide a virtual camera for other programs (needs pyvirtualcam).")
    ] = False,
    window: Annotated[bool, typer.Option("--window/--no-window", help="Show a window; q or Esc quits.")] = True,
    whole: Annotated[
        bool, typer.Option("--whole", help="With --source: show the whole photograph, not the crop.")
    ] = False,
    color: Annotated[str | None, typer.Option(help="Background of a student, #RRGGBB.", show_default="#00b140")] = None,
    size: Annotated[int, typer.Option(min=16, max=2048, help="Side of the head crop shown, pixels.")] = 256,
    fps: Annotated[
        float, typer.Option(min=1, max=240, help="Nominal frame rate of recordings and virtual cameras.")
    ] = 25,
    seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds.")] = None,
    runtime: Annotated[RuntimeChoice, typer.Option(help="auto: the fastest on this machine.")] = "auto",
    precision: Annotated[
        LivePrecision,
        typer.Option(help="auto: the fastest on this machine that gives the same image."),
    ] = "auto",
    device: Annotated[str, typer.Option(help="Device of torch: auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int, typer.Option(min=0, help="Number of threads for the network; 0: the fastest on this machine.")
    ] = 0,
    retune: Annotated[bool, typer.Option("--retune", help="Ignore cached measurements and measure again.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing recording.")] = False,
    mark: Annotated[
        bool, typer.Option("--mark/--no-mark", help="State in the metadata of recordings that they are synthetic.")
    ] = True,
    certificate: CertificateOption = None,
    credentials_key: KeyOption = None,
    timestamps: TimestampsOption = None,
) -> None:
    """Animate a student's avatar or a photograph live, with the motion of the person in front of the camera."""
    from megaportraits.live.backgrounds import flat, photo
    from megaportraits.live.cameras import open_camera
    from megaportraits.live.choice import EngineRequest, check_avatar, choose_engine, weights_files
    from megaportraits.live.loop import LiveOptions, run_live
    from megaportraits.media import VIDEO_SUFFIXES, check_input
    from megaportraits.media.credentials import check_signable
    from megaportraits.media.files import plan_file
    from megaportraits.media.provenance import Origin, synthetic_note
    from megaportraits.models.storage import find_student
    from megaportraits.pipeline.driver import HeadFollower

    if student is not None:
        asked = {
            "--face": face,
            "--motion": motion is MotionMode.RELATIVE,
            "--scale-from": scale_from is ScaleFrom.SOURCE,
        }
        _refuse("--student", {**asked, "--whole": whole})
    elif source is not None:
        _refuse("--source", {"--avatar": avatar, "--color": color})
    file = None if student is None else find_student(student)
    background = KEY_GREEN if color is None else parse_color(color)
    video = None if camera.isdecimal() else Path(camera)
    recording = None
    if output is not None:
        inputs = [path for path in (video, source, file, Path(weights)) if path is not None]
        recording = plan_file(output, "live.mp4", overwrite=overwrite, inputs=inputs, suffixes=VIDEO_SUFFIXES)
    if certificate is not None:
        if recording is None:
            raise ConfigError("--credentials: expected with a recording.", fix="Add -o FILE.")
        check_signable(recording)
    credentials = open_credentials(certificate, credentials_key, timestamps)
    # Check this before the camera is opened.
    if source is not None:
        check_input(source)
    if file is not None and avatar is not None:
        check_avatar(file, avatar)
    options = MotionOptions(motion=motion, scale_from=scale_from)
    request = EngineRequest(runtime, precision, threads, retune, device, options)
    with ExitStack() as stack:
        frames = open_camera(camera, loop=loop, mirror=mirror)
        name = Path(student or weights).stem
        note = synthetic_note(name) if mark else None
        sign = None
        if credentials is not None:
            made_with = {"student": file} if file is not None else weights_files(weights)
            sign = credentials.signer(Origin(name, made_with, source, composite=source is not None))
        screens = _open_screens(stack, recording, virtual_camera, window, fps, video, overwrite, note, sign)
        chosen = choose_engine(file, avatar, source, weights, request, face=face, say=typer.echo)
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
            LiveOptions(seconds, lambda now: status(now.line()), _neutral(chosen, follower)),
        )
    typer.echo(f"{stats.shown} pictures shown: {stats.line()}")
    if recording is not None:
        typer.echo(str(recording))


def _refuse(with_: str, options: dict[str, object]) -> None:
    """Refuse options that would have no effect."""
    given = [name for name, value in options.items() if value not in (None, False)]
    if given:
        raise ConfigError(f"live: {', '.join(given)} cannot be used with {with_}", fix=f"Leave out {', '.join(given)}.")


def _neutral(chosen: EngineChoice, follower: HeadFollower) -> Callable[[HeadView], None]:
    """The callback for neutral frames: with relative motion, the base model in torch measures motion from them."""
    from megaportraits.live.engines import TorchBase

    engine = chosen.engine

    def take(head: HeadView) -> None:
        if isinstance(engine, TorchBase) and engine.relative:
            engine.rest(head.image, head.pose.to_crop_pose(head.crop), head.face.blendshapes)
            follower.keep_near(head.crop)

    return take


def _open_screens(
    stack: ExitStack,
    output: Path | None,
    virtual_camera: bool,
    window: bool,
    fps: float,
    sound_of: Path | None,
    overwrite: bool,
    note: str | None,
    sign: Sign | None,
) -> list[Screen]:
    """Open all requested screens; a window only if one can be opened."""
    from megaportraits.live import screens

    opened: list[Screen] = []
    if output is not None:
        recorder = screens.file(output, fps=fps, sound_of=sound_of, overwrite=overwrite, note=note, sign=sign)
        opened.append(stack.enter_context(recorder))
    if virtual_camera:
        opened.append(stack.enter_context(screens.virtual_camera(fps)))
    if window:
        problem = screens.window_problem()
        if problem is None:
            opened.append(stack.enter_context(screens.window()))
        elif not opened:
            typer.secho(f"No window: {problem}.", err=True)
            typer.secho("Without a display, only the speed is measured. -o FILE records the result.", err=True)
    return opened


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """A status line that is updated in place twice a second; nothing if the output is not a terminal."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        yield lambda line: None
        return
    with Live("", console=console, refresh_per_second=2, transient=True) as line:
        yield line.update
