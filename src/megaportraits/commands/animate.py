"""The command line of `megaportraits animate`: one picture or video, or many; heavy imports inside the functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from megaportraits.commands.progress import frame_progress, job_progress
from megaportraits.errors import ConfigError
from megaportraits.pipeline.options import (
    KEY_GREEN,
    AnimateOptions,
    Background,
    MotionMode,
    PoseFrom,
    RestExpression,
    ScaleFrom,
    TranslationFrom,
    parse_color,
)

if TYPE_CHECKING:
    from megaportraits.batch import Job, Model

_POSE_PANEL = "Pose and expression"
_MANY_PANEL = "Many at once"


def animate(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Image (or video) of the person; with --out also a folder, a glob or a list (.csv)."
        ),
    ],
    drivers: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DRIVER",
            help="Video (or image) of the motion; with --out also folders, globs and several;"
            " with --face all one for each face.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A file, or a folder (FOLDER/) for SOURCE_DRIVER.mp4; default: this one."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for many results; the same line goes on.", rich_help_panel=_MANY_PANEL),
    ] = None,
    more: Annotated[
        list[Path] | None,
        typer.Option("--source", help="A further source; may be repeated.", rich_help_panel=_MANY_PANEL),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.", rich_help_panel=_MANY_PANEL)] = 1,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="ray: many machines, or one.", rich_help_panel=_MANY_PANEL)
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster; default: Ray on this machine.", rich_help_panel=_MANY_PANEL),
    ] = None,
    weights: Annotated[str, typer.Option(help="Shipped weights by name, or a .safetensors file.")] = "nano",
    hr: Annotated[bool, typer.Option("--hr", help="Enhance to twice the model's resolution; slower.")] = False,
    enhancer: Annotated[
        str | None, typer.Option(help="With --hr: a file of `train enhancer`. Default: what ships with --weights.")
    ] = None,
    motion: Annotated[
        MotionMode,
        typer.Option(
            help="absolute: the driver's pose and expression. relative: its change from neutral.",
            rich_help_panel=_POSE_PANEL,
        ),
    ] = MotionMode.ABSOLUTE,
    scale_from: Annotated[
        ScaleFrom, typer.Option(help="Whose head size to keep.", rich_help_panel=_POSE_PANEL)
    ] = ScaleFrom.DRIVER,
    translation_from: Annotated[
        TranslationFrom,
        typer.Option(help="Whose place in the picture the head keeps.", rich_help_panel=_POSE_PANEL),
    ] = TranslationFrom.DRIVER,
    frontal: Annotated[
        bool,
        typer.Option("--frontal", help="Look into the camera whatever the driver does.", rich_help_panel=_POSE_PANEL),
    ] = False,
    yaw: Annotated[
        float, typer.Option(help="Degrees to turn the head to image right.", rich_help_panel=_POSE_PANEL)
    ] = 0.0,
    pitch: Annotated[float, typer.Option(help="Degrees to turn it down.", rich_help_panel=_POSE_PANEL)] = 0.0,
    roll: Annotated[
        float, typer.Option(help="Degrees to tilt it counter-clockwise.", rich_help_panel=_POSE_PANEL)
    ] = 0.0,
    expression_strength: Annotated[
        float,
        typer.Option(help="0: the source's expression. 1: the driver's. More: stronger.", rich_help_panel=_POSE_PANEL),
    ] = 1.0,
    rest_expression: Annotated[
        RestExpression | None,
        typer.Option(
            help="Whose face shows while the driver's rests; driver: a photographed smile or open mouth does not stay."
            " Default: source with relative motion, driver with absolute.",
            rich_help_panel=_POSE_PANEL,
        ),
    ] = None,
    background: Annotated[
        Background,
        typer.Option(help="Transparent needs .webm, .mov or .png."),
    ] = Background.SOURCE,
    color: Annotated[str | None, typer.Option(help="#RRGGBB of --background color.", show_default="#00b140")] = None,
    crop: Annotated[bool, typer.Option("--crop", help="Only the square head crop, not the whole photo.")] = False,
    size: Annotated[
        int | None, typer.Option(help="Side of the head crop, pixels. [256, or what --hr makes if that is more]")
    ] = None,
    max_side: Annotated[int, typer.Option(help="Longest side of the whole photo, pixels.")] = 1280,
    max_seconds: Annotated[float | None, typer.Option(help="Stop after this much of the driver.")] = None,
    face: Annotated[
        str | None, typer.Option(help="Which face of the photo, from 1, left to right, or all: every one.")
    ] = None,
    driver_face: Annotated[int | None, typer.Option(help="Which face of the driver, from 1, left to right.")] = None,
    side_by_side: Annotated[
        Path | None, typer.Option(help="Also write source, driver and result as three squares in a row.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")] = False,
    pose: Annotated[
        PoseFrom,
        typer.Option(help="Who says how heads are turned.", rich_help_panel=_POSE_PANEL),
    ] = PoseFrom.LANDMARKS,
    blendshapes: Annotated[
        bool,
        typer.Option(help="Let measured blendshapes correct jaw, lids and gaze.", rich_help_panel=_POSE_PANEL),
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(help="auto: bfloat16 where the device has instructions for it; the picture is the same."),
    ] = "auto",
    matting: Annotated[
        Literal["selfie", "modnet"],
        typer.Option(help="Cuts people out; modnet: the paper's, whose weights you bring (`weights list`)."),
    ] = "selfie",
    inpainting: Annotated[
        Literal["smooth", "lama"],
        typer.Option(help="Paints the background behind people; lama: the paper's, 206 MB are fetched."),
    ] = "smooth",
    mark: Annotated[
        bool, typer.Option("--mark/--no-mark", help="Say in the metadata of results that they are synthetic.")
    ] = True,
) -> None:
    """Move the person of SOURCE like the person of DRIVER. Frame times and sound of the driver are kept."""
    from megaportraits.batch import Model

    if color is not None and background is not Background.COLOR:
        raise ConfigError(
            f"--color: expected with --background color, got --background {background}", fix="Add --background color."
        )
    options = AnimateOptions(
        motion=motion,
        scale_from=scale_from,
        translation_from=translation_from,
        frontal=frontal,
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        expression_strength=expression_strength,
        rest_expression=rest_expression,
        background=background,
        color=KEY_GREEN if color is None else parse_color(color),
        crop=crop,
        size=size,
        max_side=max_side,
        max_seconds=max_seconds,
        face=cast(Any, face),  # options convert texts
        driver_face=driver_face,
    )
    model = Model(
        weights, enhancer or (weights if hr else None), pose, blendshapes, device, precision, matting, inpainting, mark
    )
    sources, named = [source, *(more or [])], drivers or []
    if out is not None or _are_many([*sources, *named]):
        if out is None:
            raise ConfigError("Several results need a folder, got none.", fix="Add --out DIR.")
        _refuse(
            {"--output": output, "--side-by-side": side_by_side},
            "for one result, not with --out",
            "In a list (.csv) they are columns.",
        )
        code = _animate_many(_jobs(sources, named, options, out), out, model, jobs, engine, address, overwrite)
    else:
        _refuse(
            {"--source": more, "--engine": engine == "ray", "--address": address, "--jobs": jobs > 1},
            "with --out DIR",
            "Add it.",
        )
        code = _animate_one(source, named, output, options, model, side_by_side, overwrite)
    if code:
        raise typer.Exit(code)


def _refuse(options: dict[str, Any], expected: str, fix: str) -> None:
    for name, value in options.items():
        if value:
            raise ConfigError(f"{name}: expected {expected}.", fix=fix)


def _are_many(paths: Sequence[Path]) -> bool:
    from megaportraits.batch.jobs import is_many

    return any(is_many(path) for path in paths)


def _jobs(sources: Sequence[Path], drivers: Sequence[Path], options: AnimateOptions, out: Path) -> list[Job]:
    from megaportraits.batch import find_jobs, read_list
    from megaportraits.batch.jobs import is_list

    found = [job for path in sources if is_list(path) for job in read_list(path, drivers, options)]
    files = [path for path in sources if not is_list(path)]
    return found + (find_jobs(files, drivers, options, out=out) if files else [])


def _animate_many(
    jobs: Sequence[Job],
    out: Path,
    model: Model,
    processes: int,
    engine: Literal["local", "ray"],
    address: str | None,
    overwrite: bool,
) -> int:
    """The exit code: 0 when all results are there, 1 when a job failed, 130 after Ctrl-C."""
    from megaportraits.batch import run_jobs
    from megaportraits.engines import Engine

    place = Engine(engine, processes, address, gpu=engine == "ray" and model.device.startswith("cuda"))
    with job_progress(len(jobs)) as show:
        report = run_jobs(jobs, out, model, engine=place, overwrite=overwrite, on_outcome=show)
    for line in report.lines():
        typer.echo(line)
    return 130 if report.interrupted else int(bool(report.failed))


def _animate_one(
    source: Path,
    drivers: Sequence[Path],
    output: str | None,
    options: AnimateOptions,
    model: Model,
    side_by_side: Path | None,
    overwrite: bool,
) -> int:
    """The exit code: 0, or 130 after Ctrl-C."""
    from megaportraits.pipeline import plan_output

    file = plan_output(source, drivers, output, options, side_by_side=side_by_side, overwrite=overwrite)

    from megaportraits.pipeline import animate_file  # imports torch: not before the files are checked

    avatar = model.load()
    with frame_progress("Animating") as advance:
        report = animate_file(
            avatar,
            source,
            drivers,
            file,
            options,
            side_by_side=side_by_side,
            overwrite=overwrite,
            progress=advance,
            mark=model.mark,
        )
    for line in report.lines():
        typer.echo(line)
    return 130 if report.interrupted else 0
