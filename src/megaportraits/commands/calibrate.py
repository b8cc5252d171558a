"""`megaportraits calibrate`: a typed function, heavy imports inside."""

from __future__ import annotations

from typing import Annotated

import typer

from megaportraits.commands.progress import frame_progress


def calibrate(
    data: Annotated[str, typer.Option(help="Folder of shards as the model was trained on (or with train/), or a mix.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The base model to write, a .safetensors file.")],
    weights: Annotated[str, typer.Option(help="A base model: a shipped name, or a .safetensors file.")] = "nano",
    frames: Annotated[int, typer.Option(min=1, help="Frames to look at.")] = 3000,
    trust: Annotated[
        float, typer.Option(min=0, help="How far off z is believed to be on new people, as a share of its variance.")
    ] = 0.2,
    append: Annotated[
        bool,
        typer.Option(
            "--append",
            help="Prepare more scores to follow z (`model.motion.append_blendshapes`), for a training to come.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Let measured blendshapes correct what a trained base model sees of jaw, lids and gaze."""
    from megaportraits.commands.output import check_weights_output
    from megaportraits.commands.train import training_part
    from megaportraits.training.calibration import APPENDED_SCORES
    from megaportraits.training.calibration import calibrate as work

    file = check_weights_output(output, overwrite=overwrite, weights=[weights])
    more = APPENDED_SCORES if append else ()
    with frame_progress("Calibrating") as advance:
        explained = work(
            weights,
            training_part(data),
            file,
            frames=frames,
            trust=trust,
            more=more,
            overwrite=overwrite,
            progress=advance,
        )
    typer.echo("Share of each score's variance that z knows on these frames:")
    for name, share in explained.items():
        typer.echo(f"  {name:18} {share:.2f}")
    typer.echo(str(file))
