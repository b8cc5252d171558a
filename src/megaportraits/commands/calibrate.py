"""`megaportraits calibrate`. Heavy packages are imported inside the function."""

from __future__ import annotations

from typing import Annotated

import typer

from megaportraits.commands.progress import frame_progress


def calibrate(
    data: Annotated[
        str, typer.Option(help="The model's training data: folder of shards (or with train/), or a mixture.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="The base model to write, a .safetensors file.")],
    weights: Annotated[str, typer.Option(help="A base model: a shipped name, or a .safetensors file.")] = "nano",
    frames: Annotated[int, typer.Option(min=1, help="Number of frames.")] = 3000,
    z_error_ratio: Annotated[
        float,
        typer.Option(
            min=0,
            help="Assumed error variance of z for new people, relative to the variance of z.",
        ),
    ] = 0.2,
    append: Annotated[
        bool,
        typer.Option(
            "--append",
            help="Append residuals of more blendshapes to z (`model.motion.append_blendshapes`), for further training.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Fit the correction of z by blendshapes (jaw, brows, lids, gaze) for a trained base model."""
    from megaportraits.commands.output import check_weights_output
    from megaportraits.commands.train import training_part
    from megaportraits.training.calibration import APPENDED_BLENDSHAPES
    from megaportraits.training.calibration import calibrate as work

    file = check_weights_output(output, overwrite=overwrite, weights=[weights])
    more = APPENDED_BLENDSHAPES if append else ()
    with frame_progress("Calibrating") as advance:
        explained = work(
            weights,
            training_part(data),
            file,
            frames=frames,
            z_error_ratio=z_error_ratio,
            more=more,
            overwrite=overwrite,
            progress=advance,
        )
    typer.echo("Share of each blendshape's variance that z explains on these frames:")
    for name, share in explained.items():
        typer.echo(f"  {name:18} {share:.2f}")
    typer.echo(str(file))
