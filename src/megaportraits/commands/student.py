"""`megaportraits distill` and `megaportraits student ...`. Heavy packages are imported inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megaportraits.choices import PrecisionChoice
from megaportraits.commands.torchrun import rank

student_app = typer.Typer(
    help="Students: small, fast models of fixed people, trained by `distill`.", no_args_is_help=True
)

DriversOption = Annotated[
    list[Path],
    typer.Option(help="Folder of driver videos, or of shards of `synth` or `prepare`; may be given several times."),
]
TeacherOption = Annotated[str, typer.Option(help="Shipped weights by name, or a .safetensors file.")]
OutputOption = Annotated[str, typer.Option("--output", "-o", help="The student to write, a .safetensors file.")]
RunOption = Annotated[
    Path | None,
    typer.Option(help="Folder for distillation samples, checkpoints and statistics; default: beside --output."),
]
FramesOption = Annotated[int, typer.Option(min=1, help="Maximum number of driver frames for training.")]
PerDriverOption = Annotated[
    int, typer.Option(min=0, help="Number of avatars that the teacher renders for each driver; 0: all.")
]
EveryOption = Annotated[int, typer.Option(min=1, help="Use every n-th frame of a driver video.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Resume the run in --run, with its own config.yaml and the overrides in --set.")
]
OverridesOption = Annotated[list[str] | None, typer.Option("--set", help="Override a config value: a.b=c.")]
EnhancerOption = Annotated[
    str | None, typer.Option(help="The teacher's enhancer, by name or file; it doubles the teacher's resolution.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
DeviceOption = Annotated[str, typer.Option(help="The teacher's device: auto, cpu or cuda.")]
TeachersOption = Annotated[
    int, typer.Option(min=1, help="Number of teacher processes; they are distributed over the GPUs in turn.")
]
PrecisionOption = Annotated[
    PrecisionChoice,
    typer.Option(help="The teacher's precision; auto: bfloat16 where the device has instructions for it."),
]
TeacherBatchOption = Annotated[
    int, typer.Option(min=1, help="Images that a teacher renders together; use 16 on a GPU.")
]


def distill(
    context: typer.Context,
    avatars: Annotated[
        Path, typer.Option(help="Folder of photographs, one person each; file names become the avatars' names.")
    ],
    drivers: DriversOption,
    output: OutputOption,
    teacher: TeacherOption = "nano",
    config: Annotated[str, typer.Option(help="student-nano, student (the paper's) or a YAML file.")] = "student-nano",
    run: RunOption = None,
    frames: FramesOption = 4000,
    per_driver: PerDriverOption = 2,
    every: EveryOption = 2,
    resume: ResumeOption = False,
    overrides: OverridesOption = None,
    enhancer: EnhancerOption = None,
    device: DeviceOption = "auto",
    init: Annotated[
        str | None,
        typer.Option(help="Start from a student of these avatars: nano, or a file; its image size may differ."),
    ] = None,
    overwrite: OverwriteOption = False,
    teachers: TeachersOption = 1,
    teacher_batch: TeacherBatchOption = 4,
    precision: PrecisionOption = "auto",
) -> None:
    """Distil a student, a small and fast network, for the people in some photographs.

    Ctrl-C stops after a checkpoint; --resume continues exactly.
    """
    from megaportraits.commands import distill as work
    from megaportraits.commands.train import settle
    from megaportraits.config import TrainStudentConfig
    from megaportraits.media.files import output_file
    from megaportraits.models.storage import find_student

    file = output_file(output, "student.safetensors")
    start, run = None if init is None else find_student(init), run or _beside(file)
    job = work.Distillation.of(context.params, output=file, run=run, init=start)
    settings = settle(TrainStudentConfig, None, config, overrides or [], job.run, resume=job.trains)
    student = work.distill(job, avatars, settings)
    if rank() == 0 or student is None:
        _tell(student, job.run, file)


@student_app.command("add")
def student_add(
    context: typer.Context,
    student: Annotated[str, typer.Argument(help="A finished student: nano, or a file.")],
    photo: Annotated[Path, typer.Argument(help="Photograph of one more person.")],
    drivers: DriversOption,
    output: OutputOption,
    name: Annotated[str, typer.Option(help='Name of the new avatar; "": the name of the file.')] = "",
    teacher: TeacherOption = "nano",
    config: Annotated[str, typer.Option(help="Training config; the model is the student's own.")] = "student-nano-add",
    run: RunOption = None,
    frames: FramesOption = 1000,
    every: EveryOption = 2,
    resume: ResumeOption = False,
    overrides: OverridesOption = None,
    enhancer: EnhancerOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Add an avatar to a finished student. The results of the other avatars stay bit-identical."""
    from megaportraits.commands import distill as work
    from megaportraits.commands.train import settle
    from megaportraits.config import TrainStudentConfig
    from megaportraits.media.files import output_file
    from megaportraits.models.storage import find_student

    file = output_file(output, "student.safetensors")
    run = run or _beside(file)
    job = work.Distillation.of(context.params, output=file, run=run, per_driver=0)
    settings = settle(TrainStudentConfig, None, config, overrides or [], job.run, resume=job.trains)
    _tell(work.add(job, find_student(student), photo, name or photo.stem, settings), job.run, file)


@student_app.command("report")
def student_report(
    student: Annotated[str, typer.Argument(help="A student: nano, or a file.")],
    run: Annotated[Path, typer.Option(help="The student's run folder, for its validation samples.")],
    out: Annotated[Path, typer.Option(help="Folder for report.json, report.md and pictures.png.")],
    teacher: TeacherOption = "nano",
    pictures: Annotated[int, typer.Option(min=1, help="Maximum number of images to compare for each avatar.")] = 50,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Compare a student with its teacher: PSNR and perceptual distance for each avatar, speed and size."""
    from megaportraits.evaluation.metrics.metric_networks import MetricNetworks
    from megaportraits.evaluation.student import REPORT_FILES, measure_student
    from megaportraits.media import check_outputs
    from megaportraits.models.storage import find_student, load_base
    from megaportraits.pipeline.devices import find_device

    check_outputs(out, REPORT_FILES, overwrite=overwrite)
    where = find_device(device)
    networks = MetricNetworks(where)
    report = measure_student(
        find_student(student),
        run / "distillation",
        networks.distance,
        networks.perceptual,
        load_base(teacher),
        pictures=pictures,
        device=where,
    )
    for path in report.write(out, overwrite=overwrite):
        typer.echo(str(path))
    typer.echo(report.to_markdown())


@student_app.command("info")
def student_info(student: Annotated[str, typer.Argument(help="A student: nano, or a file.")]) -> None:
    """Print a student's avatars and properties."""
    from megaportraits.models.storage import find_student, load_student
    from megaportraits.nn.weights_file import read_notes

    file = find_student(student)
    model = load_student(file)
    typer.echo(f"{model.config.name}: {model.config.input_size} px in, {model.config.image_size} px out")
    for key in ("steps", "teacher", "teacher_sha256"):
        if value := read_notes(file).get(key):
            typer.echo(f"{key}: {value}")
    typer.echo(f"{model.bytes_shared() / 1e6:.1f} MB, and {model.bytes_per_avatar() / 1e6:.1f} MB for each of:")
    for index, name in enumerate(model.avatars):
        typer.echo(f"{index:4d}  {name}")


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}-run")


def _tell(student: object, run: Path, file: Path) -> None:
    if student is None:
        typer.echo(f"Stopped; repeat the command with --resume to continue. The run so far: {run}")
        raise typer.Exit(130)
    typer.echo(str(file))
