"""`megaportraits animate`: one result or many. Heavy packages are imported inside the functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from megaportraits.choices import EngineName, InpaintingName, MattingName, PrecisionChoice
from megaportraits.commands.credentials import CertificateOption, KeyOption, TimestampsOption, open_credentials
from megaportraits.commands.progress import frame_progress, job_progress
from megaportraits.errors import ConfigError
from megaportraits.pipeline.options import (
    AnimateOptions,
    Background,
    MotionMode,
    PoseFrom,
    RestExpression,
    ScaleFrom,
    TranslationFrom,
)

if TYPE_CHECKING:
    from megaportraits.batch import Job, Model

_POSE_PANEL = "Pose and expression"
_MANY_PANEL = "Many at once"


def animate(
    context: typer.Context,
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
        typer.Option(
            "--output", "-o", help="A file, or a folder (FOLDER/) for SOURCE_DRIVER.mp4; default: the current folder."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for many results; repeat the command to resume.", rich_help_panel=_MANY_PANEL),
    ] = None,
    more: Annotated[
        list[Path] | None,
        typer.Option("--source", help="Another source; may be given several times.", rich_help_panel=_MANY_PANEL),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.", rich_help_panel=_MANY_PANEL)] = 1,
    engine: Annotated[
        EngineName, typer.Option(help="ray: one or many machines.", rich_help_panel=_MANY_PANEL)
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster; default: Ray on this machine.", rich_help_panel=_MANY_PANEL),
    ] = None,
    weights: Annotated[str, typer.Option(help="Shipped weights by name, or a .safetensors file.")] = "nano",
    hr: Annotated[bool, typer.Option("--hr", help="Enhance to twice the model's resolution; slower.")] = False,
    enhancer: Annotated[
        str | None, typer.Option(help="With --hr: a file of `train enhancer`. Default: the one shipped with --weights.")
    ] = None,
    motion: Annotated[
        MotionMode,
        typer.Option(
            help="absolute: the driver's pose and expression. relative: its change from the neutral frame.",
            rich_help_panel=_POSE_PANEL,
        ),
    ] = MotionMode.ABSOLUTE,
    scale_from: Annotated[
        ScaleFrom, typer.Option(help="Which image sets the head's size.", rich_help_panel=_POSE_PANEL)
    ] = ScaleFrom.DRIVER,
    translation_from: Annotated[
        TranslationFrom,
        typer.Option(help="Which image sets the head's position.", rich_help_panel=_POSE_PANEL),
    ] = TranslationFrom.DRIVER,
    frontal: Annotated[
        bool,
        typer.Option("--frontal", help="Keep the head frontal; ignore its rotation.", rich_help_panel=_POSE_PANEL),
    ] = False,
    yaw: Annotated[
        float, typer.Option(help="Degrees to turn the head to image right.", rich_help_panel=_POSE_PANEL)
    ] = 0.0,
    pitch: Annotated[float, typer.Option(help="Degrees to turn the head down.", rich_help_panel=_POSE_PANEL)] = 0.0,
    roll: Annotated[
        float, typer.Option(help="Degrees to tilt the head counter-clockwise.", rich_help_panel=_POSE_PANEL)
    ] = 0.0,
    expression_strength: Annotated[
        float,
        typer.Option(
            help="0: the source's expression. 1: the driver's. Above 1: exaggerated.", rich_help_panel=_POSE_PANEL
        ),
    ] = 1.0,
    rest_expression: Annotated[
        RestExpression | None,
        typer.Option(
            help="Whose expression the result has while the driver is neutral. source: a smile or open mouth in the"
            " photo stays. Default: source with relative motion, driver with absolute.",
            rich_help_panel=_POSE_PANEL,
        ),
    ] = None,
    background: Annotated[
        Background,
        typer.Option(help="Background; transparent needs .webm, .mov or .png."),
    ] = Background.SOURCE,
    color: Annotated[
        str | None, typer.Option(help="Colour for --background color, #RRGGBB.", show_default="#00b140")
    ] = None,
    crop: Annotated[bool, typer.Option("--crop", help="Write only the square head crop, not the whole photo.")] = False,
    size: Annotated[
        int | None,
        typer.Option(help="Side of the head crop, pixels. Default: 256, or the networks' output size if larger."),
    ] = None,
    max_side: Annotated[int, typer.Option(help="Longest side of the whole photo, pixels.")] = 1280,
    max_seconds: Annotated[float | None, typer.Option(help="Use only this many seconds of the driver.")] = None,
    face: Annotated[
        str | None,
        typer.Option(
            help="Which face of the photo: its number from left to right, from 1, or all. Default: the largest."
        ),
    ] = None,
    driver_face: Annotated[
        int | None,
        typer.Option(help="Which face of the driver: its number from left to right, from 1. Default: the largest."),
    ] = None,
    side_by_side: Annotated[
        Path | None, typer.Option(help="Also write source, driver and result as three squares in a row.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")] = False,
    pose: Annotated[
        PoseFrom,
        typer.Option(
            help="How head poses are estimated: the head-pose network, or a fit to landmarks.",
            rich_help_panel=_POSE_PANEL,
        ),
    ] = PoseFrom.LANDMARKS,
    blendshapes: Annotated[
        bool,
        typer.Option(help="Correct jaw, lids and gaze by estimated blendshapes.", rich_help_panel=_POSE_PANEL),
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        PrecisionChoice,
        typer.Option(help="auto: bfloat16 where the device has instructions for it; results look the same."),
    ] = "auto",
    matting: Annotated[
        MattingName,
        typer.Option(help="Matting network. modnet: the paper's; you provide its weights (see `weights list`)."),
    ] = "selfie",
    inpainting: Annotated[
        InpaintingName,
        typer.Option(help="How the background behind people is filled. lama: the paper's method; downloads 206 MB."),
    ] = "smooth",
    mark: Annotated[
        bool, typer.Option("--mark/--no-mark", help="State in the metadata of results that they are synthetic.")
    ] = True,
    certificate: CertificateOption = None,
    credentials_key: KeyOption = None,
    timestamps: TimestampsOption = None,
) -> None:
    """Animate the person in SOURCE with the motion of the person in DRIVER. The driver's frame times and sound are
    kept.
    """
    from megaportraits.batch import Model

    options = AnimateOptions.of({field.name: context.params[field.name] for field in fields(AnimateOptions)})
    model = Model(
        weights,
        enhancer or (weights if hr else None),
        pose,
        blendshapes,
        device,
        precision,
        matting,
        inpainting,
        mark,
        open_credentials(certificate, credentials_key, timestamps),
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
        code = _animate_many(
            _jobs(sources, named, options, out, signed=model.credentials is not None),
            out,
            model,
            jobs,
            engine,
            address,
            overwrite,
        )
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


def _jobs(
    sources: Sequence[Path], drivers: Sequence[Path], options: AnimateOptions, out: Path, *, signed: bool
) -> list[Job]:
    from megaportraits.batch import find_jobs, read_list
    from megaportraits.batch.jobs import is_list

    found = [job for path in sources if is_list(path) for job in read_list(path, drivers, options, signed=signed)]
    files = [path for path in sources if not is_list(path)]
    return found + (find_jobs(files, drivers, options, out=out, signed=signed) if files else [])


def _animate_many(
    jobs: Sequence[Job],
    out: Path,
    model: Model,
    processes: int,
    engine: EngineName,
    address: str | None,
    overwrite: bool,
) -> int:
    """Run the jobs. Returns the exit code: 0 if all results exist, 1 if a job failed, 130 after Ctrl-C."""
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
    """Write one result. Returns the exit code: 0, or 130 after Ctrl-C."""
    from megaportraits.pipeline import plan_output

    signed = model.credentials is not None
    file = plan_output(source, drivers, output, options, side_by_side=side_by_side, overwrite=overwrite, signed=signed)

    from megaportraits.pipeline import animate_file  # imports torch, so only after the files are checked

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
            credentials=model.credentials,
        )
    for line in report.lines():
        typer.echo(line)
    return 130 if report.interrupted else 0
