"""`megaportraits reference`: statistics of real images for FID."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megaportraits.commands.evaluation import DeviceOption
from megaportraits.commands.pairs import OverwriteOption
from megaportraits.commands.progress import frame_progress


def reference(
    images: Annotated[
        list[Path], typer.Option(help="Folder of images and videos, for example FFHQ; may be given several times.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="The statistics to write, a .npz file.")],
    size: Annotated[int, typer.Option(min=32, help="Side of head crops, pixels, as for `evaluate`; 1024 for hr.")],
    name: Annotated[str, typer.Option(help="Name of the set in reports; empty: the folders' names.")] = "",
    per_video: Annotated[int, typer.Option(min=1, help="Maximum frames of each video; one per second is used.")] = 8,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Compute the statistics of real images with which `evaluate --reference` compares outputs (FID)."""
    from megaportraits.evaluation.metrics.metric_networks import FID, MetricNetworks
    from megaportraits.evaluation.metrics.reference import find_pictures, measure_reference, save_reference
    from megaportraits.faces import FaceAnalyzer
    from megaportraits.media.files import plan_file
    from megaportraits.pipeline.devices import find_device

    file = plan_file(output, "reference.npz", overwrite=overwrite, suffixes=(".npz",))
    files, networks = find_pictures(images), MetricNetworks(find_device(device))
    if networks.frechet != FID:
        typer.secho(networks.absent()["FID"], err=True)
    analyzer = FaceAnalyzer(reject_animals=False)
    named = name or " + ".join(folder.resolve().name for folder in images)
    with frame_progress("Measuring") as advance:
        found = measure_reference(named, files, networks, analyzer, size=size, per_video=per_video, progress=advance)
    save_reference(file, found, overwrite=overwrite)
    for why, count in found.left_out.items():
        typer.secho(f"left out: {count}, {why}", err=True)
    typer.echo(f"{file}: {found.describe()}, by {found.network}")
