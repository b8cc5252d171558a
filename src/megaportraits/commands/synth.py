"""`megaportraits synth`, `synth-head`, `synth-driver` and `synth-portrait`. Heavy packages are imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megaportraits.commands.progress import shard_progress
from megaportraits.errors import ConfigError

_HeadOption = Annotated[Path, typer.Option(help="ICT-FaceKit head: packed .npz or its FaceXModel folder.")]
_PersonOption = Annotated[int, typer.Option(help="Number of the procedural person.")]


def synth(
    head: _HeadOption,
    out: Annotated[Path, typer.Option(help="Output folder; an unfinished run with the same settings resumes.")],
    portraits: Annotated[
        Path | None, typer.Option(help="Folder of photographs, one person each; without it: procedural heads only.")
    ] = None,
    clips: Annotated[int, typer.Option(help="Training clips; validation gets 3 % on top.")] = 3000,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    seed: Annotated[int, typer.Option(help="Random seed; the result does not depend on --workers.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels along each side of a frame.")] = 128,
    frames: Annotated[int, typer.Option(help="Frames of a clip.")] = 8,
    group: Annotated[int, typer.Option(help="Number of people with the same motions.")] = 4,
    lifted_share: Annotated[
        float | None, typer.Option(help="Share of clips from photographs, 0 to 1. Default: 0.8; 1 with --photographs.")
    ] = None,
    grey_share: Annotated[
        float, typer.Option(help="Share of black and white photographs in clips from photographs, 0 to 1.")
    ] = 0.25,
    coords: Annotated[bool, typer.Option(help="Store surface maps, for supervision of the warps.")] = True,
    measure: Annotated[
        bool, typer.Option("--measure", help="Store estimated blendshapes and landmarks, for models that use them.")
    ] = False,
    photographs: Annotated[
        bool,
        typer.Option(
            "--photographs", help="Frame 0 of each clip is the photograph itself, the training target; no other clips."
        ),
    ] = False,
) -> None:
    """Make labelled training clips from photographs and a morphable head. Repeat the same command to resume after
    Ctrl-C.
    """
    from megaportraits.synth.generate import generate
    from megaportraits.synth.plan import SynthSettings

    if photographs and portraits is None:
        raise ConfigError("--photographs needs --portraits", fix="Give the folder of photographs.")
    share = (1.0 if photographs else 0.8) if lifted_share is None else lifted_share
    settings = SynthSettings(
        portraits=portraits,
        head=head,
        clips=clips,
        seed=seed,
        size=size,
        frames=frames,
        group=group,
        lifted_share=share if portraits else 0.0,
        grey_share=grey_share,
        coords=coords,
        measure=measure,
        photographs=photographs,
    )
    with shard_progress() as on_progress:
        report = generate(settings, out, workers=workers, on_progress=on_progress)
    typer.echo(f"{report['clips']} clips of {frames} frames in {out}, see report.json and contact_sheet.png")


def synth_head(
    source: Annotated[Path, typer.Argument(help="The FaceXModel folder of ICT-FaceKit.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The packed .npz to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Pack ICT-FaceKit's head and find the vertices that correspond to MediaPipe's landmarks; `synth` needs both."""
    from megaportraits.media.files import plan_file
    from megaportraits.synth.correspondence import pack_head

    file = plan_file(output, "head.npz", overwrite=overwrite, suffixes=(".npz",))
    found = pack_head(source, file, overwrite=overwrite)
    typer.echo(f"{file}: {found} of 468 landmarks found")


def synth_driver(
    head: _HeadOption,
    output: Annotated[str, typer.Option("--output", "-o", help="The .mp4 to write.")],
    seconds: Annotated[float, typer.Option(help="Length of the video.")] = 4.0,
    size: Annotated[int, typer.Option(help="Pixels along each side.")] = 256,
    person: _PersonOption = 82,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Render a talking procedural head: a driver that shows no real person and is free of rights."""
    from megaportraits.media import VIDEO_SUFFIXES
    from megaportraits.media.files import plan_file
    from megaportraits.synth.demo import render_driver

    file = plan_file(output, "driver.mp4", overwrite=overwrite, suffixes=VIDEO_SUFFIXES)
    render_driver(head, file, seconds=seconds, size=size, person=person, overwrite=overwrite)
    typer.echo(str(file))


def synth_portrait(
    head: _HeadOption,
    output: Annotated[str, typer.Option("--output", "-o", help="The image to write.")],
    size: Annotated[int, typer.Option(help="Pixels along each side.")] = 448,
    person: _PersonOption = 82,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Render a neutral procedural person: a test photograph that shows no real person."""
    from megaportraits.media import STILL_SUFFIXES
    from megaportraits.media.files import plan_file
    from megaportraits.synth.demo import render_portrait

    file = plan_file(output, "portrait.png", overwrite=overwrite, suffixes=STILL_SUFFIXES)
    render_portrait(head, file, size=size, person=person, overwrite=overwrite)
    typer.echo(str(file))
