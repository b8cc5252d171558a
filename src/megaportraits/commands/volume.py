"""`megaportraits volume`: a video of the feature volume, as in appendix C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megaportraits.commands.progress import frame_progress


def volume(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Image (or video) of the person.")],
    driver: Annotated[
        Path | None, typer.Argument(metavar="[DRIVER]", help="Video of the motion; without it, the volume turns.")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="The video to write.")] = "volume.mp4",
    weights: Annotated[str, typer.Option(help="Shipped weights by name, or a .safetensors file.")] = "nano",
    size: Annotated[int, typer.Option(min=32, help="Side of each image in the row, pixels; even.")] = 256,
    turn: Annotated[float, typer.Option(min=0, max=90, help="Turn of the volume to either side, degrees.")] = 40.0,
    seconds: Annotated[
        float, typer.Option(min=0.04, help="Length of the video; with a driver, how many seconds of it to use.")
    ] = 4.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a video of the feature volume. Without a driver, it shows the photograph, v_s and the canonical volume,
    turning. With a driver, it shows the driver, the result, and the driven volume from the front and from the side.
    """
    from megaportraits.media import VIDEO_SUFFIXES, VideoWriter
    from megaportraits.media.files import plan_file
    from megaportraits.pipeline import Avatar
    from megaportraits.pipeline.driver import FrameSource
    from megaportraits.pipeline.volume_view import VolumeOptions, animated, turntable

    inputs = (source,) if driver is None else (source, driver)
    file = plan_file(output, "volume.mp4", overwrite=overwrite, inputs=inputs, suffixes=VIDEO_SUFFIXES)
    options = VolumeOptions(size=size, turn=turn, seconds=seconds)
    frames = None if driver is None else FrameSource(driver)
    avatar = Avatar.from_pretrained(weights, device=device)
    made = turntable(avatar, source, options) if frames is None else animated(avatar, source, frames, options)
    with (
        frame_progress("Drawing") as advance,
        VideoWriter(file, fps=frames.fps if frames else options.fps, overwrite=overwrite) as writer,
    ):
        for number, picture in enumerate(made, 1):
            writer.write(picture)
            advance(number, None if frames else round(seconds * options.fps))
    typer.echo(str(file))
