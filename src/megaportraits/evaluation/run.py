"""An evaluation from files to a report: the work behind `megaportraits evaluate`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from megaportraits import __version__
from megaportraits.errors import DataError, FaceError, MediaError
from megaportraits.evaluation.protocol import STEP, Animator, ClipResult, P, evaluate_clip, read_clip
from megaportraits.evaluation.report import Report
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.media import is_video


@dataclass(frozen=True)
class Settings:
    """What the numbers depend on.

    Attributes:
        weights: as they were asked for: a shipped name, or a file's name.
        sha256: of the weights file.
        version: of this package.
        size: side of the head crops, pixels.
        frames: drivers of a clip, at most.
        pose: where head poses come from: "landmarks" or "network".
        step: every how many frames of a clip are used.
    """

    weights: str
    sha256: str
    version: str
    size: int
    frames: int
    pose: str = "landmarks"
    step: int = STEP


def find_settings(name: str, path: Path, *, size: int, frames: int, pose: str) -> Settings:
    """The settings for weights in a file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Settings(Path(name).name, digest, __version__, size, frames, pose)


def find_clips(paths: Iterable[Path]) -> list[Path]:
    """The videos among files and folders: files as given, those of a folder by name.

    Raises:
        MediaError: a given file is missing or cannot be read.
        DataError: nothing is a video.
    """
    clips: list[Path] = []
    for path in paths:
        if path.is_dir():
            clips += [file for file in sorted(path.iterdir()) if file.is_file() and _is_video(file)]
        else:
            is_video(path)
            clips.append(path)
    if not clips:
        raise DataError("Expected at least one video, found none.", fix="Name video files or a folder of them.")
    return clips


def evaluate_self(
    animator: Animator[P],
    clips: Sequence[Path],
    make_analyzer: Callable[..., FaceAnalyzer],
    settings: Settings,
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> Report:
    """Run the protocol `self` over clips; a clip that cannot be used is named in the report.

    Args:
        animator: the measured system.
        clips: video files.
        make_analyzer: `FaceAnalyzer`; called once for videos and once for outputs.
        settings: `size` must be the animator's.
        progress: called with the frames done and the frames expected.
    """
    videos, outputs = make_analyzer(), make_analyzer(reject_animals=False)
    results: list[ClipResult] = []
    failed: dict[str, str] = {}
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        tell()

    def tell() -> None:
        if progress is not None:
            progress(done, expected)

    expected = len(clips) * settings.frames
    for path in clips:
        try:
            clip = read_clip(path, videos, settings.size, settings.frames)
            expected -= settings.frames - len(clip.frames)
            results.append(evaluate_clip(animator, clip, outputs, progress=advance))
        except (FaceError, MediaError) as error:
            failed[path.name] = error.message
            expected -= settings.frames
            tell()
    return Report(asdict(settings), results, failed)


def _is_video(path: Path) -> bool:
    try:
        return is_video(path)
    except MediaError:
        return False
