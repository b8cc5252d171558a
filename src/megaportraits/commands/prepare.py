"""`megaportraits prepare`. Heavy packages are imported inside the function."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from megaportraits.choices import ChildPolicy, Dataset, EngineName, ImageFormat, StillCrop
from megaportraits.commands.progress import item_progress, shard_progress

if TYPE_CHECKING:
    from megaportraits.prepare.run import Summary
    from megaportraits.prepare.settings import ExtractSettings


def prepare(
    out: Annotated[
        Path, typer.Option(help="Output folder; an unfinished run resumes, a finished one is filtered again.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders, globs, files, manifests (.csv, .parquet) or fsspec addresses; without any: filter again."
        ),
    ] = None,
    dataset: Annotated[Dataset, typer.Option(help="Layout of the input.")] = "plain",
    annotations: Annotated[
        str | None,
        typer.Option(
            help="VoxCeleb2: the folder txt with the tracks; FFHQ, CelebV-HQ: the JSON. Default: those in the inputs."
        ),
    ] = None,
    still_crop: Annotated[
        StillCrop | None,
        typer.Option(
            help="Crop of stills. head: repeat the border beyond the image. inside: keep the crop inside the image. "
            "Default: inside for FFHQ's aligned images, otherwise head."
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Maximum side of a stored frame; heads are never upscaled. Default: 256.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames stored per second of video, 0: all. Default: 5.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="Maximum frames of a clip. Default: 48.")] = None,
    min_frames: Annotated[int | None, typer.Option(help="Minimum frames of a clip. Default: 4.")] = None,
    image: Annotated[ImageFormat | None, typer.Option(help="Format of the frames. Default: jpg.")] = None,
    min_crop: Annotated[
        int | None, typer.Option(help="Minimum pixels of the head crop in the original; default: --size.")
    ] = None,
    min_bitrate: Annotated[float, typer.Option(help="Minimum bitrate, kilobits per second.")] = 0.0,
    min_presence: Annotated[float, typer.Option(help="Minimum mean confidence of the face, 0 to 1.")] = 0.8,
    max_people: Annotated[int, typer.Option(help="Maximum number of faces in a frame.")] = 1,
    min_inside: Annotated[float, typer.Option(help="Minimum fraction of the head crop inside the image.")] = 0.6,
    children: Annotated[
        ChildPolicy | None,
        typer.Option(help="If no age is known: decide by face, keep, or drop. Default: face for FFHQ, otherwise keep."),
    ] = None,
    ages: Annotated[Path | None, typer.Option(help="CSV with name,age, or FFHQ-features' json folder.")] = None,
    min_age: Annotated[float, typer.Option(help="Minimum age in years, where known.")] = 18.0,
    drop_iqa: Annotated[
        float, typer.Option(help="Fraction of the videos to drop: those with the lowest image quality.")
    ] = 0.5,
    max_duplicate: Annotated[
        float, typer.Option(help="Minimum image correlation of duplicate clips; 2: no clip is a duplicate.")
    ] = 0.98,
    same_person: Annotated[float, typer.Option(help="Minimum cosine similarity of two videos of one person.")] = 0.6,
    val_percent: Annotated[float, typer.Option(help="Percentage of people for validation.")] = 3.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Apply the filters and print counts, but write no shards.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Read failed inputs again.")] = False,
    engine: Annotated[EngineName, typer.Option(help="ray: one or many machines.")] = "local",
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster; default: Ray on this machine.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    head: Annotated[Path | None, typer.Option(help="ICT-FaceKit head: also make clips from stills by `synth`.")] = None,
    lift_clips: Annotated[int | None, typer.Option(help="Clips from stills; default: four for each.")] = None,
) -> None:
    """Make training clips from videos and stills; repeat the same command to resume or to change filters."""
    from megaportraits.engines import Engine
    from megaportraits.prepare.lifting import lift_stills
    from megaportraits.prepare.run import prepare as run
    from megaportraits.prepare.settings import Thresholds
    from megaportraits.prepare.sources import find_items

    chosen = {"size": size, "fps": fps, "max_frames": max_frames, "min_frames": min_frames, "image": image}
    settings = _settings(out, {name: value for name, value in chosen.items() if value is not None})
    items = []
    if inputs:
        items = find_items(
            inputs,
            dataset=dataset,
            annotations=annotations,
            ages=ages,
            still_crop=still_crop,
            tell=partial(typer.echo, err=True),
        )
    limits = Thresholds(
        min_crop=settings.size if min_crop is None else min_crop,
        min_bitrate=min_bitrate,
        min_presence=min_presence,
        max_people=max_people,
        min_inside=min_inside,
        min_age=min_age,
        children=children or ("face" if dataset == "ffhq" else "keep"),
        drop_iqa=drop_iqa,
        max_duplicate=max_duplicate,
        same_person=same_person,
        validation_percent=val_percent,
    )
    with item_progress() as on_progress:
        summary = run(
            items,
            out,
            settings,
            limits,
            engine=Engine(engine, workers, address),
            dry_run=dry_run,
            retry_failed=retry_failed,
            on_progress=on_progress,
        )
    for line in _summary_lines(summary):
        typer.echo(line)
    if head is not None and not dry_run:
        with shard_progress() as on_shard:
            counts = lift_stills(
                summary.rows,
                out,
                head=head,
                size=settings.size,
                clips=lift_clips,
                workers=workers,
                on_progress=on_shard,
            )
        typer.echo(f"lifted: {counts['clips']} clips")


def _settings(out: Path, chosen: dict[str, Any]) -> ExtractSettings:
    """The stored settings of the folder, if any, changed by the given options."""
    from dataclasses import asdict

    from megaportraits.prepare.quality import HYPERIQA, best_quality
    from megaportraits.prepare.settings import ExtractSettings
    from megaportraits.prepare.store import NOTE, stored_settings

    if (out / NOTE).is_file():
        stored = stored_settings(out)
        if stored.iqa != best_quality() == HYPERIQA:
            typer.secho(
                f"Warning: {out} was started without HyperIQA's weights and still uses {stored.iqa!r}, although they "
                "are installed now: values of two measures are not comparable. For HyperIQA use another --out.",
                fg="yellow",
                err=True,
            )
        return ExtractSettings(**{**asdict(stored), **chosen})
    return ExtractSettings(**{"iqa": best_quality(), **chosen})


def _summary_lines(summary: Summary) -> list[str]:
    """Clips after each filter, unreadable files, and paths of the results."""
    from megaportraits.prepare.filters import LABELS

    lines = [
        f"{summary.items} videos and stills, {len(summary.failed)} unreadable, {len(summary.empty)} without a clip"
    ]
    before = summary.counts[0][1]
    for name, left in summary.counts:
        label = "clips found" if name == "found" else LABELS[name]
        lines.append(f"{left:8d}  {label}" + (f"  (-{before - left})" if left != before else ""))
        before = left
    lines += [f"{folder}: {count} clips" for folder, count in summary.folders.items()]
    return lines + [str(path) for path in summary.files]
