"""Self-reenactment by a student (B.1, Figure 17): draws test clips, writes their avatars, makes figure and table."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from megaportraits.errors import DataError
from megaportraits.evaluation.methods.base import TRUE
from megaportraits.evaluation.pairs import Pair, key_of
from megaportraits.evaluation.plan import usable_source_frame
from megaportraits.evaluation.report.results import Report
from megaportraits.evaluation.report.sheets import label, title
from megaportraits.evaluation.samples import source_picture
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.media import write_image
from megaportraits.media.images import UInt8
from megaportraits.ops.pictures import resize

PAPER = {"student": {"psnr": 19.25, "ssim": 0.682}, "teacher": {"psnr": 21.34, "ssim": 0.768}}
"""The paper's numbers (B.1), measured on its own, unpublished selection of videos."""
_TILE = 192


def draw_pairs(
    clips: Sequence[Path],
    analyzer: FaceAnalyzer,
    *,
    count: int,
    seed: int,
    frames: int,
    skipped: Callable[[Path, str], None] = lambda path, why: None,
) -> list[Pair]:
    """Make pairs of the protocol `self` from randomly drawn clips; equal seeds give equal pairs, in the clips' order.

    Args:
        clips: videos, each of one person.
        analyzer: finds the source frames.
        count: number of clips to draw.
        seed: seed of the draw.
        frames: largest number of driver frames of a pair.
        skipped: called with every drawn clip that is not usable, and the reason; another clip replaces it.

    Raises:
        DataError: fewer than `count` clips are usable, or two drawn clips have the same name.
    """
    drawn: dict[int, Pair] = {}
    for index in random.Random(seed).sample(range(len(clips)), len(clips)):
        if len(drawn) == count:
            break
        clip = clips[index]
        frame = usable_source_frame(clip, analyzer, skipped)
        if frame is not None:
            drawn[index] = Pair(key_of(clip, clip), "self", clip, frame, clip, frames=frames)
    if len(drawn) < count:
        raise DataError(
            f"Expected at least {count} clips with a face in their first second, got {len(drawn)}.",
            fix="Give more clips, or fewer --avatars.",
        )
    chosen = [drawn[index] for index in sorted(drawn)]
    names = [pair.source.stem for pair in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"Two clips are called {twice[0]!r}; avatars are named after them.", fix="Rename one.")
    return chosen


def check_held_out(clips: Sequence[Path], drivers: Sequence[Path]) -> None:
    """Check that no test clip is among the student's training drivers.

    Raises:
        DataError: a clip lies in a folder of drivers.
    """
    folders = [folder.resolve() for folder in drivers]
    for path in clips:
        clip = path.resolve()
        if any(folder == clip or folder in clip.parents for folder in folders):
            raise DataError(
                f"{path} is a test clip, but it is in --drivers: the student would be trained on it.",
                fix="Keep test clips in another folder.",
            )


def write_avatars(folder: Path, pairs: Sequence[Pair]) -> list[Path]:
    """Write each pair's source frame as the photograph `folder/CLIP.png`; existing files are kept.

    Raises:
        MediaError: a clip cannot be read, or a file cannot be written.
        DataError: a clip does not have the source frame.
    """
    written = []
    for pair in pairs:
        path = folder / f"{pair.source.stem}.png"
        if not path.exists():
            write_image(path, source_picture(pair))
        written.append(path)
    return written


def figure(report: Report, teacher: str, student: str) -> UInt8:
    """Make Figure 17: for each pair a row of source, driver, teacher and student at the middle of the clip.

    Raises:
        DataError: no pair has results of both teacher and student.
    """
    methods = (TRUE, teacher, student)
    rows = []
    for row in report.of("self"):
        if row.note is not None and all(name in row.results for name in methods):
            shown = [row.results[name].thumbnails for name in methods]
            tiles = [row.note.source, *(pictures[len(pictures) // 2] for pictures in shown)]
            rows.append(np.concatenate([title(_TILE, row.pair.key), *(resize(p, _TILE) for p in tiles)], axis=1))
    if not rows:
        raise DataError("No pair has results of teacher and student.", fix="See the report's reasons.")
    names = ("", "source", "driver", "teacher", "student")
    heads = [label(_TILE, name)[_TILE // 2 - 16 : _TILE // 2 + 8] for name in names]
    wide = [np.pad(h, ((0, 0), (0, _TILE - h.shape[1]), (0, 0)), constant_values=255) for h in heads]
    return np.concatenate([np.concatenate(wide, axis=1), *rows])


def table(report: Report, teacher: str, student: str) -> str:
    """Make a Markdown table of PSNR and SSIM, raw and masked, with the paper's numbers."""
    head = ("self-reenactment", "PSNR, dB", "SSIM", "masked PSNR, dB", "masked SSIM", "the paper (B.1)")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for role, method in (("teacher", teacher), ("student", student)):
        values = [
            report.estimate("self", method, name).value for name in ("psnr", "ssim", "psnr_masked", "ssim_masked")
        ]
        cells = [f"{value:.{digits}f}" for value, digits in zip(values, (2, 3, 2, 3), strict=True)]
        lines.append(f"| {role} | {' | '.join(cells)} | {PAPER[role]['psnr']}, {PAPER[role]['ssim']} |")
    return "\n".join(lines) + "\n"
