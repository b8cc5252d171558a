"""`megaportraits gaze-teacher`: labels of RT-GENE and RT-BENE for `train gaze`. Heavy packages are imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megaportraits.choices import EyeLabel


def gaze_teacher(
    data: Annotated[Path, typer.Option(help="Folder of shards of `prepare` (or with train/ and val/).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The label file to write, .jsonl.")],
    gaze: Annotated[
        list[Path] | None,
        typer.Option(help="RT-GENE as ONNX; give several for an ensemble. Default: rt_gene of `weights list`."),
    ] = None,
    blink: Annotated[
        list[Path] | None,
        typer.Option(help="RT-BENE as ONNX; give several for an ensemble. Default: rt_bene of `weights list`."),
    ] = None,
    only: Annotated[EyeLabel | None, typer.Option(help="Label only one of the two.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Maximum number of random frames; the paper has 60,000.")] = 60_000,
    seed: Annotated[int, typer.Option(help="Random seed of the choice of frames.")] = 0,
    offset: Annotated[
        float | None, typer.Option(help="Radians added to phi. Default as RT-GENE: 0.11 for one network, else 0.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads for the networks.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Label random frames with RT-GENE (gaze) and RT-BENE (blink), for `train gaze --labels`. Repeat the same command
    to resume.
    """
    from megaportraits import weights
    from megaportraits.commands.progress import frame_progress
    from megaportraits.commands.train import training_part
    from megaportraits.data.clips import ClipIndex
    from megaportraits.faces.rt_gene import BlinkTeacher, GazeTeacher
    from megaportraits.media.files import plan_file
    from megaportraits.prepare.gaze_teacher import Teachers, sample_frames, write_labels

    output = plan_file(output, "gaze.jsonl", overwrite=overwrite, suffixes=(".jsonl",))
    folder = training_part(data)
    index = ClipIndex(folder, skip_unreadable=True)
    gazes = [] if only == "blink" else gaze or [weights.fetch("rt_gene")]
    blinks = [] if only == "gaze" else blink or [weights.fetch("rt_bene")]
    teachers = Teachers(
        GazeTeacher(gazes, offset=offset, threads=threads) if gazes else None,
        BlinkTeacher(blinks, threads=threads) if blinks else None,
        {
            "rt_gene": [weights.sha256_of(path) for path in gazes],
            "rt_bene": [weights.sha256_of(path) for path in blinks],
        },
    )
    chosen = sample_frames(index, frames, seed)
    settings = {"data": Path(folder).name, "clips": len(index), "seed": seed, "asked": frames}
    with frame_progress("Labelling") as advance:
        ended = write_labels(index, chosen, teachers, output, settings=settings, overwrite=overwrite, progress=advance)
    typer.echo(f"{output}: {ended.frames:,} frames")
    for name, hashes in teachers.hashes.items():
        typer.echo(f"{name}: {', '.join(digest[:16] for digest in hashes) or 'left out'}")
    if ended.unreadable:
        typer.echo(f"{ended.unreadable:,} frames cannot be read and have no label.", err=True)
