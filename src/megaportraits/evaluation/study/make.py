"""Makes a study folder from pairs and folders of results: files of one size and codec, with anonymous names."""

from __future__ import annotations

import functools
import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from megaportraits.errors import DataError
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.study.plan import (
    FILE,
    ROLES,
    Question,
    Study,
    StudySettings,
    Triplet,
    draw_gold,
    draw_triplets,
    question_id,
)
from megaportraits.media import (
    STILL_SUFFIXES,
    VIDEO_SUFFIXES,
    VideoFrame,
    VideoReader,
    VideoWriter,
    is_video,
    read_image,
    write_image,
)
from megaportraits.media.files import check_input
from megaportraits.media.images import UInt8
from megaportraits.media.staging import staged_output
from megaportraits.ops.pictures import resize

SUFFIXES = (*VIDEO_SUFFIXES, *STILL_SUFFIXES)
_TICKS = Fraction(1, 90_000)
_LONGEST_PADDING = 8192


@dataclass(frozen=True)
class Shown:
    """The part of a file that voters see.

    Attributes:
        path: an image or a video.
        still: number of the single frame of a video that is shown, as an image; None: the video is shown.
        first: number of the first frame of a video.
        step: every `step`-th frame of a video is shown.
        frames: largest number of frames of a video; None: all.
        without: number of a frame of a video that is left out, or None.
        like: a video whose frame times are used for this one if it shows the same number of frames, or None.
    """

    path: Path
    still: int | None = None
    first: int = 0
    step: int = 1
    frames: int | None = None
    without: int | None = None
    like: Shown | None = None


@dataclass
class MediaFolder:
    """The folder of the images and videos that voters see; existing files are not made again.

    Attributes:
        folder: the folder; a file's name is a hash of its content and of the place where it is shown.
        size: longest side of images and videos, pixels.
        seconds: longest duration of a video.
    """

    folder: Path
    size: int
    seconds: float
    _first: dict[Shown, Path] = field(default_factory=dict)
    _hashes: dict[Path, str] = field(default_factory=dict)

    def add(self, shown: Shown, place: str) -> str:
        """Make the file for one place; returns its name.

        Every place has its own file. Files with the same content in two places differ in name and length, so that
        voters cannot detect which side of a gold question is the reference itself.

        Args:
            shown: what the file shows.
            place: any text that identifies the place.
        """
        if shown.path not in self._hashes:
            self._hashes[shown.path] = hashlib.sha256(check_input(shown.path).read_bytes()).hexdigest()
        content = self._hashes[shown.path]
        what = (content, self.size, self.seconds, replace(shown, path=Path(), like=None), _times(shown.like), place)
        digest = hashlib.sha256(repr(what).encode()).hexdigest()
        moving = is_video(shown.path) and shown.still is None
        path = self.folder / f"{digest[:24]}{'.mp4' if moving else '.jpg'}"
        if not path.exists():
            with staged_output(path, overwrite=False) as part:
                if shown in self._first:
                    shutil.copyfile(self._first[shown], part)
                elif moving:
                    self._video(shown, part)
                else:
                    write_image(part, self._small(_picture(shown)), overwrite=True)
                _lengthen(part, 1 + int(digest[24:28], 16) % _LONGEST_PADDING)
        self._first.setdefault(shown, path)
        return path.name

    def _video(self, shown: Shown, path: Path) -> None:
        times = _times(shown)
        if shown.like is not None and len(wanted := _times(shown.like)) == len(times):
            times = wanted
        with VideoWriter(path, fps=25, time_base=_TICKS, overwrite=True) as video:
            for time, frame in zip(times, _frames(shown), strict=True):
                if time > self.seconds:
                    break
                video.write(self._small(frame.image), round(time / _TICKS))

    def _small(self, image: UInt8) -> UInt8:
        scale = min(1.0, self.size / max(image.shape[:2]))
        if scale == 1:
            return image
        height, width = (max(2, round(side * scale / 2) * 2) for side in image.shape[:2])
        return resize(image, (width, height))


def make_study(
    out: Path,
    pairs: Sequence[Pair],
    methods: Mapping[str, Path],
    settings: StudySettings,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Study, dict[str, int]]:
    """Make a study folder, or complete one whose making was interrupted.

    Args:
        out: folder for `study.json` and `media/`.
        pairs: the pairs that the methods animated.
        methods: for each method's name, a folder with `PROTOCOL/PAIR.mp4` or `PAIR.mp4`; images are accepted, too.
        settings: see `StudySettings`.
        progress: called with the number of questions done and in total.

    Returns:
        The study, and for each method the number of pairs without result.

    Raises:
        DataError: `out` contains a study already, there are fewer than two methods, a folder has no results, there is
            nothing to compare, or the settings do not fit.
        MediaError: a file cannot be read or written.
    """
    _check(methods, settings)
    if (out / FILE).exists():
        raise DataError(f"{out} holds a study already.", fix="Choose another --out; its votes belong to its questions.")
    results = {name: find_results(name, folder, pairs) for name, folder in methods.items()}
    rng = np.random.default_rng(settings.seed)
    by_name = {pair.name: pair for pair in pairs}
    asked = draw_triplets(list(by_name), {name: found.keys() for name, found in results.items()}, settings, rng)
    if not asked:
        raise DataError("No pair has results of two methods.", fix="Give results of the same pairs, named after them.")
    triplets = [*asked, *draw_gold(pairs, settings, rng)]
    media = MediaFolder(out / "media", settings.size, settings.seconds)
    wanted = [_shown(triplet, by_name, results) for triplet in triplets]
    questions = []
    for done, (triplet, shown) in enumerate(zip(triplets, wanted, strict=True)):
        progress(done, len(triplets))
        name = question_id(triplet, settings.seed)
        files = [media.add(one, f"{name}/{role}") for role, one in zip(ROLES, shown, strict=True)]
        questions.append(Question(name, triplet, *files))
    progress(len(triplets), len(triplets))
    study = Study(tuple(methods), settings, tuple(questions))
    study.write(out)
    return study, {name: len(by_name) - len(found) for name, found in results.items()}


def find_results(method: str, folder: Path, pairs: Sequence[Pair]) -> dict[str, Path]:
    """Find a method's files by the pairs' names.

    Raises:
        DataError: there are no files, or two files of one pair.
    """
    if not folder.is_dir():
        raise DataError(f"{method}: expected a folder of results at {folder}, found none.", fix="Check the path.")
    found: dict[str, Path] = {}
    for pair in pairs:
        for place in (folder / pair.protocol, folder):
            files = [path for s in SUFFIXES if (path := place / f"{pair.key}{s}").is_file()]
            if len(files) > 1:
                raise DataError(f"{method} has {len(files)} results of {pair.name}: {', '.join(map(str, files))}.")
            if files:
                found.setdefault(pair.name, files[0])
    if not found:
        raise DataError(
            f"{method}: no result of any pair in {folder}.",
            fix=f"Name results after pairs, as {pairs[0].key}.mp4." if pairs else "Give pairs.",
        )
    return found


def _check(methods: Mapping[str, Path], settings: StudySettings) -> None:
    if len(methods) < 2:
        raise DataError(f"A study compares at least two methods, got {len(methods)}.", fix="Give --method twice.")
    if settings.gold_per_voter > 2 * settings.gold or settings.gold_per_voter >= settings.per_voter:
        raise DataError(
            f"{settings.gold_per_voter} gold questions a voter, of {settings.per_voter} in all, are more than fit: "
            f"there are {2 * settings.gold}",
            fix="Lower --gold-per-voter, or raise --gold or --per-voter.",
        )


def _shown(triplet: Triplet, pairs: Mapping[str, Pair], results: Mapping[str, Mapping[str, Path]]) -> list[Shown]:
    """What a question shows as reference, left and right."""
    reference = driver_of if triplet.kind == "motion" else source_of
    pair = pairs[triplet.pair]
    if triplet.gold is not None:
        return [reference(pairs[name]) for name in (triplet.pair, triplet.left, triplet.right)]
    driver = driver_of(pair)
    sides = [Shown(results[method][pair.name], like=driver) for method in (triplet.left, triplet.right)]
    return [reference(pair), *sides]


def _lengthen(path: Path, count: int) -> None:
    """Add `count` bytes that players ignore: to an MP4 a `free` box (ISO/IEC 14496-12), to a JPEG a comment."""
    content = path.read_bytes()
    if path.suffix == ".mp4":
        content += (8 + count).to_bytes(4, "big") + b"free" + bytes(count)
    else:
        content = content[:2] + b"\xff\xfe" + (2 + count).to_bytes(2, "big") + bytes(count) + content[2:]
    path.write_bytes(content)


def source_of(pair: Pair) -> Shown:
    """A pair's photograph, or the source frame of its video."""
    return Shown(pair.source, still=(pair.source_frame or 0) if is_video(pair.source) else None)


def driver_of(pair: Pair) -> Shown:
    """The frames of the driver that the pair uses."""
    if not is_video(pair.driver):
        return Shown(pair.driver)
    itself = pair.source_frame if pair.driver.resolve() == pair.source.resolve() else None
    return Shown(pair.driver, None, pair.first, pair.step, pair.frames, itself)


def _frames(shown: Shown) -> Iterator[VideoFrame]:
    stop = None if shown.frames is None else shown.first + shown.step * (shown.frames + 1)
    numbered = enumerate(itertools.islice(VideoReader(shown.path), stop))
    chosen = (f for i, f in numbered if i >= shown.first and (i - shown.first) % shown.step == 0 and i != shown.without)
    return itertools.islice(chosen, shown.frames)


@functools.lru_cache(maxsize=1024)
def _times(shown: Shown | None) -> tuple[float, ...]:
    """Times of the shown frames in seconds, from 0; empty for an image."""
    if shown is None or shown.still is not None or not is_video(shown.path):
        return ()
    times = [frame.time for frame in _frames(shown)]
    if not times:
        raise DataError(f"{shown.path} ends before frame {shown.first}.", fix="Correct the manifest.")
    return tuple(time - times[0] for time in times)


def _picture(shown: Shown) -> UInt8:
    if shown.still is None:
        return read_image(shown.path)
    frame = next(itertools.islice(VideoReader(shown.path), shown.still, None), None)
    if frame is None:
        raise DataError(f"{shown.path} has no frame {shown.still}.", fix="Correct source_frame in the manifest.")
    return frame.image
