"""`megaportraits export ...`. Heavy packages are imported inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from megaportraits.choices import GraphPrecision, SmallPrecision, Volumes
from megaportraits.commands.choice import repeatable_choice
from megaportraits.pipeline.options import PoseFrom

if TYPE_CHECKING:
    from megaportraits.export.report import ExportReport

export_app = typer.Typer(
    help="Export networks to ONNX for onnxruntime and OpenVINO, and measure quality and speed of each precision.",
    no_args_is_help=True,
)

OutOption = Annotated[Path, typer.Option(help="Folder for the .onnx files and report.json.")]
PrecisionsOption = Annotated[
    list[str] | None,
    repeatable_choice(
        SmallPrecision, "--precision", help="Also write this precision; may be given twice. float32 is always written."
    ),
]
DriverOption = Annotated[
    Path | None, typer.Option(help="Video to calibrate int8 and to measure on; default: the demo's driver.")
]
FramesOption = Annotated[int, typer.Option(min=2, help="Number of its frames to use.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]


@export_app.command("base")
def export_base(
    out: OutOption,
    weights: Annotated[str, typer.Option(help="Shipped weights by name, or a .safetensors file.")] = "nano",
    precision: PrecisionsOption = None,
    pose: Annotated[
        PoseFrom,
        typer.Option(help="landmarks: the graphs take head poses and blendshapes. network: they estimate head poses."),
    ] = PoseFrom.LANDMARKS,
    size: Annotated[
        int, typer.Option(help="Side of the image, pixels; 0: the model's own, or twice that with a source skip.")
    ] = 0,
    volumes: Annotated[Volumes, typer.Option(help="How volumes are sampled; OpenVINO needs gathers.")] = "gathers",
    source: Annotated[
        Path | None, typer.Option(help="Photograph to calibrate and measure with; default: the demo's.")
    ] = None,
    driver: DriverOption = None,
    frames: FramesOption = 24,
    overwrite: OverwriteOption = False,
) -> None:
    """Export the base model as two graphs: encode.onnx runs once per source, drive.onnx once per frame."""
    from megaportraits.export.base import BaseExport
    from megaportraits.export.base import export_base as export
    from megaportraits.pipeline.demo import demo_driver, demo_portrait

    options = BaseExport(
        precisions=_precisions(precision),
        pose=pose,
        size=size,
        volumes=volumes,
        source=source or demo_portrait(),
        driver=driver or demo_driver(),
        frames=frames,
        overwrite=overwrite,
    )
    _show(export(weights, out, options))


@export_app.command("student")
def export_student(
    student: Annotated[str, typer.Option(help="nano, or the .safetensors file that `megaportraits distill` wrote.")],
    out: OutOption,
    avatar: Annotated[
        str | None, typer.Option(help="Export only this avatar; default: all, chosen by an index input.")
    ] = None,
    precision: PrecisionsOption = None,
    driver: DriverOption = None,
    frames: FramesOption = 24,
    overwrite: OverwriteOption = False,
) -> None:
    """Export a student as one graph, student.onnx."""
    from megaportraits.export.student import StudentExport
    from megaportraits.export.student import export_student as export
    from megaportraits.models.storage import find_student
    from megaportraits.pipeline.demo import demo_driver

    options = StudentExport(
        avatar=avatar,
        precisions=_precisions(precision),
        driver=driver or demo_driver(),
        frames=frames,
        overwrite=overwrite,
    )
    _show(export(find_student(student), out, options))


@export_app.command("page")
def export_page(
    student: Annotated[str, typer.Option(help="nano, or the .safetensors file that `megaportraits distill` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the page; any web server can serve it.")],
    avatar: Annotated[str | None, typer.Option(help="Include only this avatar; default: all.")] = None,
    scripts: Annotated[
        str | None,
        typer.Option(help="Address of onnxruntime-web, or its unpacked npm package, which is copied. Default: a CDN."),
    ] = None,
    driver: Annotated[
        Path | None, typer.Option(help="Video on which the graph is compared with torch; default: the demo's driver.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Export a student as a web page on which a webcam drives its avatars. All computation runs in the browser."""
    from megaportraits.export.page import CDN, PageExport
    from megaportraits.export.page import export_page as export
    from megaportraits.models.storage import find_student
    from megaportraits.pipeline.demo import demo_driver

    options = PageExport(avatar=avatar, scripts=scripts or CDN, driver=driver or demo_driver(), overwrite=overwrite)
    paths = export(find_student(student), out, options)
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    typer.echo(f"{paths[0]}: the page, {len(paths)} files, {megabytes:.1f} MB")
    typer.echo(f"Look at it: python -m http.server --directory {out}, then http://localhost:8000")


def _show(report: ExportReport) -> None:
    """Print a report as a table."""
    from rich.console import Console
    from rich.table import Table

    runtimes = list(report.rows[0].milliseconds)
    table = Table()
    for name in ("file", "MB", "PSNR, dB", "difference", *(f"{name}, ms" for name in runtimes)):
        table.add_column(name, no_wrap=name == "file", justify="left" if name == "file" else "right")
    for row in report.rows:
        times = [row.milliseconds[name] for name in runtimes]
        table.add_row(
            row.file,
            f"{row.megabytes:.1f}",
            "" if row.psnr is None else f"{row.psnr:.1f}",
            f"{row.difference:.1e}",
            *("refused" if time is None else f"{time:.1f}" for time in times),
        )
    console = Console()
    console.print(table)
    console.print("PSNR and largest difference: against torch in float32. Times: one thread.")
    console.print(f"{report.path}: the same as JSON", soft_wrap=True)


def _precisions(chosen: list[str] | None) -> tuple[GraphPrecision, ...]:
    """float32 and the chosen ones."""
    return tuple(name for name in get_args(GraphPrecision) if name == "float32" or name in (chosen or []))
