"""`megaportraits pairs`, and the options of other commands that choose pairs. Heavy packages are imported inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megaportraits.choices import PROTOCOLS, ProtocolName
from megaportraits.commands.choice import repeatable_choice
from megaportraits.errors import ConfigError

if TYPE_CHECKING:
    from megaportraits.evaluation.pairs import Pair

ClipsOption = Annotated[
    list[Path] | None,
    typer.Option(help="A video, a folder of videos or a folder of shards; may be given several times."),
]
StillsOption = Annotated[
    list[Path] | None,
    typer.Option(help="A photograph, a folder of photographs or of shards: the sources of cross, student and hr."),
]
ProtocolsOption = Annotated[
    list[str] | None,
    repeatable_choice(ProtocolName, "--protocol", help="May be given several times; default: self and cross."),
]
FramesOption = Annotated[
    int, typer.Option(min=2, help="Maximum driver frames of each pair; every second frame is used.")
]
LimitOption = Annotated[int, typer.Option(min=1, help="Maximum pairs of cross, student and hr, and clips from shards.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]


def pairs(
    output: Annotated[str, typer.Option("--output", "-o", help="The manifest to write, a .csv file.")],
    clips: ClipsOption = None,
    stills: StillsOption = None,
    protocol: ProtocolsOption = None,
    frames: FramesOption = 60,
    limit: LimitOption = 8,
    export: Annotated[
        Path | None, typer.Option(help="Also write sources and driver crops to this folder, for other programs.")
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Side of exported crops, pixels; always 1024 for hr.")] = 256,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a manifest of pairs, so that several methods are evaluated on the same pairs."""
    from megaportraits.evaluation.pairs import write_manifest
    from megaportraits.evaluation.plan import export_sample, exported_names
    from megaportraits.evaluation.run import HR_SIZE
    from megaportraits.evaluation.samples import read_sample
    from megaportraits.faces import FaceAnalyzer
    from megaportraits.faces.matting import Matting
    from megaportraits.media import check_outputs
    from megaportraits.media.files import plan_file

    file = plan_file(output, "pairs.csv", overwrite=overwrite, suffixes=(".csv",))
    found = read_or_make_pairs(None, clips, stills, protocol, frames, limit, file.with_suffix(".media"))
    if export is not None:
        check_outputs(export, (name for pair in found for name in exported_names(pair)), overwrite=overwrite)
    write_manifest(file, found, overwrite=overwrite)
    typer.echo(f"{file}: {len(found)} pairs")
    if export is not None:
        analyzer, matting = FaceAnalyzer(), Matting()
        for pair in found:
            sample = read_sample(pair, analyzer, matting, HR_SIZE if pair.protocol == "hr" else size)
            export_sample(sample, export, overwrite=overwrite)
        typer.echo(f"{export}: PROTOCOL/PAIR.source.png, .crop.png and .driver.mp4")


def tell_left_out(path: Path, why: str) -> None:
    """Print a file that cannot be used, and the reason, to stderr."""
    typer.secho(f"{path.name}: left out: {why}", err=True)


def read_or_make_pairs(
    manifest: Path | None,
    clips: Sequence[Path] | None,
    stills: Sequence[Path] | None,
    protocols: Sequence[str] | None,
    frames: int,
    limit: int,
    media: Path,
) -> list[Pair]:
    """Read a manifest's pairs, or make pairs from folders. Inputs that cannot be used are reported on stderr.

    `media` is the folder for files that are extracted from clips in shards.
    """
    from megaportraits.evaluation.pairs import DEFAULT_PROTOCOLS, read_manifest
    from megaportraits.evaluation.plan import find_media, make_pairs
    from megaportraits.evaluation.shards import files_of
    from megaportraits.faces import FaceAnalyzer

    chosen = [name for name in PROTOCOLS if name in (protocols or [])]
    if manifest is not None:
        return [pair for pair in read_manifest(manifest) if not chosen or pair.protocol in chosen]
    if not clips and not stills:
        raise ConfigError("Expected --manifest, --clips or --stills, got none.", fix="For example --clips FOLDER.")
    videos = find_media(files_of(clips, media, videos=True, limit=limit), videos=True) if clips else []
    photos = find_media(files_of(stills, media, videos=False, limit=limit), videos=False) if stills else []
    told: dict[Path, str] = {}
    made = []
    analyzer = FaceAnalyzer()
    for name in chosen or DEFAULT_PROTOCOLS:
        made += make_pairs(name, videos, photos, analyzer, frames=frames, limit=limit, skipped=told.__setitem__)
    for path, why in told.items():
        tell_left_out(path, why)
    # `prepare` has already dropped frames, so use every frame here.
    return [replace(pair, step=1) if media in pair.driver.parents else pair for pair in made]
