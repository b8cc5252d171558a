"""Makes pairs from folders, the same ones for the same files, and exports samples for other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from megaportraits.choices import ProtocolName
from megaportraits.errors import DataError, FaceError, MediaError
from megaportraits.evaluation.pairs import Pair, crossed, key_of
from megaportraits.evaluation.samples import EvaluationSample, best_source_frame
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.media import PICTURE_SUFFIXES, VideoWriter, is_video, read_image, write_image


def find_media(paths: Iterable[Path], *, videos: bool) -> list[Path]:
    """Find videos or images among files and folders; the files of a folder are sorted by name.

    Args:
        paths: files and folders.
        videos: whether to find videos; otherwise images.

    Raises:
        MediaError: a given file is missing, or is of the other kind.
        DataError: nothing is found.
    """
    found: list[Path] = []
    kind = "video" if videos else "image"
    paths = list(paths)
    for path in paths:
        if path.is_dir():
            found += [file for file in sorted(path.iterdir()) if file.is_file() and _is(file, videos)]
        elif is_video(path) == videos:
            found.append(path)
        else:
            raise MediaError(f"{path}: expected a {kind}.", fix=f"Name a {kind} or a folder with some.")
    if not found:
        where = ", ".join(map(str, paths)) or "no folder at all"
        raise DataError(f"Expected at least one {kind} in {where}, found none.", fix=f"Name {kind}s or their folder.")
    return found


def make_pairs(
    protocol: ProtocolName,
    clips: Sequence[Path],
    stills: Sequence[Path],
    analyzer: FaceAnalyzer,
    *,
    frames: int,
    limit: int,
    skipped: Callable[[Path, str], None] = lambda path, why: None,
) -> list[Pair]:
    """Make the pairs of a protocol.

    `self`: the source is the most frontal and neutral frame in a clip's first second, the driver is the same clip.
    `cross` and `student`: the sources are the stills, or without stills such frames of the clips; the drivers are the
    clips. `hr`: sources and drivers are different stills.

    Args:
        protocol: the protocol.
        clips: videos.
        stills: photographs.
        analyzer: finds the source frames.
        frames: largest number of driver frames of a pair.
        limit: largest number of pairs; `self` always uses every clip.
        skipped: called with every source that has no usable face, and the reason.

    Raises:
        DataError: there are too few files for the protocol, or none is usable.
    """
    at = {clip: usable_source_frame(clip, analyzer, skipped) for clip in clips} if protocol != "hr" else {}
    usable = [clip for clip in clips if at.get(clip) is not None]
    if protocol == "self":
        chosen = [(clip, clip) for clip in usable]
    elif protocol == "hr":
        faces = [still for still in stills if _has_face(still, analyzer, skipped)]
        chosen = crossed(faces, faces, limit)
    else:
        sources = [still for still in stills if _has_face(still, analyzer, skipped)] if stills else usable
        chosen = crossed(sources, clips, limit)
    if not chosen:
        needs = {"self": "clips", "hr": "at least two stills"}.get(protocol, "clips, and stills or other clips")
        raise DataError(
            f"Expected {needs} for the protocol {protocol}, found none usable.", fix="See --clips, --stills."
        )
    return [
        Pair(key_of(source, driver), protocol, source, at.get(source), driver, frames=frames)
        for source, driver in chosen
    ]


def exported_names(pair: Pair) -> tuple[str, str, str]:
    """The names of the files that `export_sample` writes: the source, its head crop, the driver's head crops."""
    stem = f"{pair.protocol}/{pair.key}"
    return f"{stem}.source.png", f"{stem}.crop.png", f"{stem}.driver.mp4"


def export_sample(sample: EvaluationSample, folder: Path, *, overwrite: bool = False) -> None:
    """Write a sample for other programs.

    The files are `PROTOCOL/PAIR.source.png` (the whole image), `PROTOCOL/PAIR.crop.png` (its head crop) and
    `PROTOCOL/PAIR.driver.mp4` (the driver's head crops, one for each evaluated frame).

    Raises:
        MediaError: a file exists and `overwrite` is false, or the folder cannot be written.
    """
    source, crop, driver = (folder / name for name in exported_names(sample.pair))
    write_image(source, sample.photo, overwrite=overwrite)
    write_image(crop, sample.source, overwrite=overwrite)
    rate = Fraction(sample.fps).limit_denominator(1000)
    with VideoWriter(driver, fps=rate, overwrite=overwrite) as writer:
        for true in sample.frames:
            writer.write(true.square)


def usable_source_frame(clip: Path, analyzer: FaceAnalyzer, skipped: Callable[[Path, str], None]) -> int | None:
    """`best_source_frame`, or None if the clip has none; `skipped` is then called with the clip and the reason."""
    try:
        return best_source_frame(clip, analyzer)
    except (FaceError, MediaError) as error:
        skipped(clip, error.message)
        return None


def _has_face(still: Path, analyzer: FaceAnalyzer, skipped: Callable[[Path, str], None]) -> bool:
    try:
        analyzer.require(read_image(still), still.name)
    except (FaceError, MediaError) as error:
        skipped(still, error.message)
        return False
    return True


def _is(path: Path, video: bool) -> bool:
    if not video:
        return path.suffix.lower() in PICTURE_SUFFIXES
    try:
        return is_video(path)
    except MediaError:
        return False
