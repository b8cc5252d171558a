"""`megaportraits evaluate-hr`: measure what an enhancer adds to a base model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megaportraits.commands.evaluation import ArcFaceOption, DeviceOption
from megaportraits.commands.progress import frame_progress
from megaportraits.pipeline.options import PoseFrom


def evaluate_hr(
    photos: Annotated[
        Path, typer.Option(help="Folder of portraits not used in training: images, or shards of `prepare`.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for hr.json, hr.md and hr.png.")],
    weights: Annotated[str, typer.Option(help="Shipped weights by name, or a .safetensors file.")] = "nano",
    enhancer: Annotated[
        str | None, typer.Option(help="A file of `train enhancer`. Default: the one shipped with --weights.")
    ] = None,
    driver: Annotated[Path | None, typer.Option(help="Driver video; default: the demo's.")] = None,
    frames: Annotated[
        int, typer.Option(min=0, help="Number of its frames, from the first; 0: no cross-reenactment.")
    ] = 24,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of photographs.")] = 16,
    pose: Annotated[PoseFrom, typer.Option(help="See `animate`.")] = PoseFrom.LANDMARKS,
    device: DeviceOption = "auto",
    arcface: ArcFaceOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
) -> None:
    """Compare enhanced images with bicubically enlarged ones: sharpness, error against the ground truth, identity and
    flicker.
    """
    from megaportraits.evaluation.enhancement import as_it_is, bicubic_from, compare, find_photos, read_drivers
    from megaportraits.evaluation.metrics.metric_networks import MetricNetworks
    from megaportraits.evaluation.report.comparison import HR_FILES
    from megaportraits.faces import FaceAnalyzer
    from megaportraits.media import check_outputs
    from megaportraits.pipeline import Avatar
    from megaportraits.pipeline.demo import demo_driver
    from megaportraits.pipeline.devices import find_device

    check_outputs(out, HR_FILES, overwrite=overwrite)
    networks = MetricNetworks(find_device(device), arcface)
    plain = Avatar.from_pretrained(weights, device=device, pose_from=pose)
    finer = Avatar.from_pretrained(weights, device=device, pose_from=pose, enhancer=enhancer or weights)
    size, analyzer = finer.output_size, FaceAnalyzer(reject_animals=False)
    found, skipped = find_photos(photos, analyzer, size=size, limit=limit)
    drivers = read_drivers(driver or demo_driver(), analyzer, size=size, frames=frames) if frames else []
    animators = {"bicubic": (plain, bicubic_from(plain.size)), "enhanced": (finer, as_it_is)}
    if plain.model.config.source_skip:
        animators = {
            "bicubic": animators["bicubic"],
            "source's detail": (plain, as_it_is),
            "enhanced": animators["enhanced"],
        }
    with frame_progress("Measuring") as advance:
        report = compare(animators, found, drivers, size=size, analyzer=analyzer, networks=networks, progress=advance)
    report.skipped |= skipped
    for path in report.write(out, overwrite=overwrite):
        typer.echo(str(path))
    typer.echo((out / "hr.md").read_text(encoding="utf-8"))
