"""Images of the pairs with a method's worst values in metrics of detail, because numbers do not show what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megaportraits.errors import MediaError
from megaportraits.evaluation.methods.base import COPY, LIFTED, TRUE
from megaportraits.evaluation.metrics.detail import REGION_OF
from megaportraits.evaluation.report.closeups import CELLS, REGIONS, closeup
from megaportraits.evaluation.report.results import PairRow, Report
from megaportraits.evaluation.report.sheets import PAPER, printable, put_text
from megaportraits.evaluation.store import result_video, slug
from megaportraits.media import VideoReader
from megaportraits.media.images import UInt8

COUNT = 3
"""Number of pairs shown for each metric."""
_BASELINES = (COPY, LIFTED)
_LABEL, _HEAD, _GAP = 190, 22, 4


@dataclass(frozen=True)
class Example:
    """A pair with one of a method's worst values in a metric.

    Attributes:
        metric: name of the metric.
        row: the pair.
        value: the metric's value on this pair.
        frame: the driver frame to show, as index among the pair's frames: the one that lowers the metric most.
    """

    metric: str
    row: PairRow
    value: float
    frame: int


def ranked_methods(report: Report, protocol: str) -> list[str]:
    """The methods, without baselines and true crops, that have examples in a protocol."""
    names = [name for name in report.methods if name not in (TRUE, *_BASELINES)]
    return [name for name in names if worst_pairs(report, protocol, name)]


def worst_pairs(report: Report, protocol: str, method: str) -> list[Example]:
    """Up to `COUNT` pairs for each metric of `evaluation.metrics.detail`, worst first.

    The worst value is the lowest one; for gains it is the one farthest from 1. Pairs without a value are left out.
    """
    found: list[Example] = []
    if protocol == "hr":
        return found
    for metric in REGION_OF:
        examples = [
            Example(metric, row, row.results[method].metrics[metric], row.results[method].worst_frames[metric])
            for row in report.of(protocol)
            if method in row.results and metric in row.results[method].worst_frames and row.note is not None
        ]
        badness: Callable[[Example], float] = (
            (lambda e: -abs(e.value - 1)) if metric.startswith("gain") else (lambda e: e.value)
        )
        found += sorted((e for e in examples if math.isfinite(e.value)), key=badness)[:COUNT]
    return found


def file_name(protocol: str, method: str) -> str:
    """The file name of a method's image in the report's folder."""
    return f"worst-{protocol}-{slug(method)}.png"


def worst_sheet(report: Report, protocol: str, method: str, results: Path) -> UInt8:
    """Show a method's worst pairs: for each metric, rows with its region of source, driver, result and baselines.

    Args:
        report: the results.
        protocol: the protocol.
        method: one of `ranked_methods`.
        results: folder with the outputs as videos, see `evaluation.store`.
    """
    columns = [TRUE, method, *(name for name in _BASELINES if name in report.methods)]
    examples = worst_pairs(report, protocol, method)
    blocks = []
    for metric, region in REGION_OF.items():
        chosen = [example for example in examples if example.metric == metric]
        if chosen:
            blocks.append(_header(region, metric, ["source", "driver", method, *columns[2:]]))
            blocks += [_line(example, region, columns, results) for example in chosen]
    width = max(block.shape[1] for block in blocks)
    return np.concatenate(
        [np.pad(b, ((0, _GAP), (0, width - b.shape[1]), (0, 0)), constant_values=PAPER) for b in blocks]
    )


def _line(example: Example, region: str, columns: Sequence[str], results: Path) -> UInt8:
    note, pair = example.row.note, example.row.pair
    assert note is not None  # `worst_pairs` leaves such rows out
    index = REGIONS.index(region)
    box = note.boxes[example.frame, index]
    key = printable(pair.key)
    cells = [_text([key[i : i + 24] for i in range(0, len(key), 24)][:4], example), note.closeups[index]]
    for name in columns:
        picture = _frame(result_video(results, name, pair), example.frame) if name in example.row.results else None
        cells.append(_blank(region) if picture is None else closeup(picture, box, region))
    height = CELLS[region][1]
    spaced = [np.pad(cell[:height], ((0, 0), (0, _GAP), (0, 0)), constant_values=PAPER) for cell in cells]
    return np.concatenate(spaced, axis=1)


def _frame(path: Path, number: int) -> UInt8 | None:
    try:
        return next((frame.image for i, frame in enumerate(VideoReader(path)) if i == number), None)
    except MediaError:
        return None  # the video may have been removed


def _blank(region: str) -> UInt8:
    width, height = CELLS[region]
    return np.full((height, width, 3), PAPER - 25, np.uint8)


def _header(region: str, metric: str, titles: Sequence[str]) -> UInt8:
    width = CELLS[region][0] + _GAP
    bar = np.full((_HEAD, _LABEL + _GAP + width * len(titles), 3), PAPER - 12, np.uint8)
    put_text(bar, metric, 4, 16)
    for number, title in enumerate(titles):
        put_text(bar, title[: width // 8], _LABEL + _GAP + number * width + 4, 16)
    return bar


def _text(name: Sequence[str], example: Example) -> UInt8:
    cell = np.full((max(height for _, height in CELLS.values()), _LABEL, 3), PAPER, np.uint8)
    for line, text in enumerate([f"{example.value:.2f}  (frame {example.frame})", *name]):
        put_text(cell, text, 4, 16 + 17 * line)
    return cell
