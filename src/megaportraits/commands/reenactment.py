"""`megaportraits student reenact`: self-reenactment by the student, as in B.1 and Figure 17."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megaportraits.commands.student import (
    DeviceOption,
    DriversOption,
    EnhancerOption,
    EveryOption,
    FramesOption,
    OverridesOption,
    PerDriverOption,
    ResumeOption,
    TeacherBatchOption,
    TeacherOption,
    TeachersOption,
)
from megaportraits.commands.torchrun import rank, wait_until

TEACHER, STUDENT = "teacher", "student"
"""Names of the two methods in the report."""
_LOOKS = 10
"""Number of clips that are considered in a folder of shards for each avatar that is chosen."""


def reenact(
    context: typer.Context,
    clips: Annotated[
        list[Path],
        typer.Option(
            help="Test videos, folders of videos or of shards; one person per clip, none of them in --drivers."
        ),
    ],
    drivers: DriversOption,
    out: Annotated[Path, typer.Option(help="Folder for avatars, pairs, the student, its run and the report.")],
    avatars: Annotated[int, typer.Option(min=1, help="Number of clips to choose at random; the paper has 10.")] = 10,
    seed: Annotated[int, typer.Option(help="Random seed of that choice.")] = 0,
    test_frames: Annotated[
        int, typer.Option(min=2, help="Maximum test frames of each clip; every second frame is used.")
    ] = 60,
    teacher: TeacherOption = "nano",
    config: Annotated[str, typer.Option(help="student-nano, student (the paper's) or a YAML file.")] = "student-nano",
    frames: FramesOption = 4000,
    per_driver: PerDriverOption = 2,
    every: EveryOption = 2,
    resume: ResumeOption = False,
    overrides: OverridesOption = None,
    enhancer: EnhancerOption = None,
    device: DeviceOption = "auto",
    teachers: TeachersOption = 1,
    teacher_batch: TeacherBatchOption = 4,
) -> None:
    """Distil a student for people in test videos, and evaluate it and its teacher on these videos (B.1, Figure 17)."""
    from megaportraits.commands import distill as work
    from megaportraits.commands.evaluation import model_method, run_evaluation, tell_failures
    from megaportraits.commands.pairs import tell_left_out
    from megaportraits.commands.train import settle
    from megaportraits.config import TrainStudentConfig
    from megaportraits.evaluation.metrics.metric_networks import MetricNetworks, require_packages
    from megaportraits.evaluation.pairs import read_manifest, write_manifest
    from megaportraits.evaluation.plan import find_media
    from megaportraits.evaluation.reenactment import check_held_out, draw_pairs, figure, table, write_avatars
    from megaportraits.evaluation.report.write import write_report
    from megaportraits.evaluation.run import Evaluation
    from megaportraits.evaluation.shards import files_of
    from megaportraits.faces import FaceAnalyzer
    from megaportraits.faces.matting import Matting
    from megaportraits.media import check_outputs, write_image
    from megaportraits.media.staging import staged_output
    from megaportraits.pipeline import PoseFrom
    from megaportraits.pipeline.devices import find_device

    require_packages()
    manifest, student = out / "pairs.csv", out / "student.safetensors"
    if rank():
        wait_until(manifest.is_file)  # process 0 chooses the clips
    else:
        check_outputs(out, ("student.safetensors", "pairs.csv", "figure17.png", "reenactment.md"), overwrite=resume)
        if not (resume and manifest.is_file()):
            check_held_out(clips, drivers)
            files = find_media(files_of(clips, out / "media", videos=True, limit=_LOOKS * avatars), videos=True)
            check_held_out(files, drivers)
            chosen = draw_pairs(
                files, FaceAnalyzer(), count=avatars, seed=seed, frames=test_frames, skipped=tell_left_out
            )
            write_avatars(out / "avatars", chosen)
            write_manifest(manifest, chosen, overwrite=resume)
    pairs = read_manifest(manifest)
    job = work.Distillation.of(context.params, output=student, run=out / "run", overwrite=resume)
    settings = settle(TrainStudentConfig, None, config, overrides or [], job.run, resume=job.trains)
    if not (resume and student.is_file()) and work.distill(job, out / "avatars", settings) is None:
        typer.echo(f"Stopped; repeat the command with --resume to continue. The run so far: {job.run}")
        raise typer.Exit(130)
    if rank():
        return
    matting = Matting()
    named = {TEACHER: teacher + (f"+{enhancer}" if enhancer else ""), STUDENT: str(student)}
    models = {name: model_method(f"{name}={text}", PoseFrom.LANDMARKS, device, matting) for name, text in named.items()}
    evaluation = Evaluation(
        methods=[method for method, _ in models.values()],
        pairs=pairs,
        out=out / "report",
        size=models[STUDENT][1],
        settings={"avatars": len(pairs), "seed": seed},
        networks=MetricNetworks(find_device(device)),
    )
    report = run_evaluation(evaluation)
    write_report(report, out / "report", overwrite=True)
    tell_failures(report)
    write_image(out / "figure17.png", figure(report, TEACHER, STUDENT), overwrite=True)
    text = table(report, TEACHER, STUDENT)
    with staged_output(out / "reenactment.md", overwrite=True) as part:
        part.write_text(text, encoding="utf-8")
    typer.echo(text)
    for name in ("reenactment.md", "figure17.png", "report/report.html"):
        typer.echo(str(out / name))
