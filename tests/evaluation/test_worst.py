"""The worst pairs have the worst values, and the shown frame is the one that lowered the value most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megaportraits.evaluation.methods.base import COPY, TRUE
from megaportraits.evaluation.metrics.measure import PairResult
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.report.closeups import CELLS
from megaportraits.evaluation.report.results import PairRow, Report
from megaportraits.evaluation.report.worst import COUNT, ranked_methods, worst_pairs, worst_sheet
from megaportraits.evaluation.store import SampleNote, result_video
from megaportraits.media import VideoWriter

FRAMES = 4


def result(values: dict[str, float], frame: int) -> PairResult:
    nothing = np.zeros((FRAMES, 4), np.float32)
    known = {name: frame for name, value in values.items() if np.isfinite(value)}
    return PairResult(values, {}, nothing, np.zeros((FRAMES, 10)), [np.zeros((8, 8, 3), np.uint8)] * 5, known)


def row(number: int, **values: float) -> PairRow:
    pair = Pair(f"p{number}", "self", Path(f"{number}.mp4"), 0, Path(f"{number}.mp4"))
    eyes, mouth = (np.full((height, width, 3), 40, np.uint8) for width, height in CELLS.values())
    boxes = np.tile(np.array([0.5, 0.5, 0.25], np.float32), (FRAMES, 2, 1))
    note = SampleNote(
        FRAMES,
        0,
        25.0,
        np.zeros((FRAMES, 10)),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 4), np.float32),
        boxes,
        (eyes, mouth),
    )
    made = result(values, number % FRAMES)
    return PairRow(pair, note, {TRUE: made, COPY: made, "mine": made})


def report_of(rows: list[PairRow]) -> Report:
    return Report({}, {TRUE: {}, COPY: {}, "mine": {}}, rows, "csim_sface", "p", "f", None, {})


def test_the_lowest_detail_and_the_gain_farthest_from_one_are_the_worst() -> None:
    details, gains = [0.5, np.nan, 0.1, 0.9, 0.3], [1.1, 0.9, 2.5, 0.0, 1.0]
    rows = [row(i, detail_eyes=d, gain_teeth=g) for i, (d, g) in enumerate(zip(details, gains, strict=True))]
    report = report_of(rows)
    found = worst_pairs(report, "self", "mine")
    keys = {m: [e.row.pair.key for e in found if e.metric == m] for m in ("detail_eyes", "gain_teeth", "corr_teeth")}
    assert keys == {"detail_eyes": ["p2", "p4", "p0"], "gain_teeth": ["p2", "p3", "p0"], "corr_teeth": []}
    assert len(keys["detail_eyes"]) == COUNT
    assert ranked_methods(report, "self") == ["mine"]
    assert ranked_methods(report_of([row(0, detail_eyes=np.nan)]), "self") == []


def test_source_driver_result_and_baselines_are_shown_at_the_frame_that_lowered_the_measure(tmp_path: Path) -> None:
    rows = [row(2, detail_eyes=0.2)]  # its frame is 2
    for name, channel in ((TRUE, 0), ("mine", 1), (COPY, 2)):
        path = result_video(tmp_path, name, rows[0].pair)
        path.parent.mkdir(parents=True)
        with VideoWriter(path) as writer:
            for number in range(FRAMES):
                picture = np.zeros((64, 64, 3), np.uint8)
                picture[..., channel] = 60 * number
                writer.write(picture)
    sheet = worst_sheet(report_of(rows), "self", "mine", tmp_path)
    width, height = CELLS["eyes"]
    middle = [sheet[22 + 4 + height // 2, 194 + i * (width + 4) + width // 2].astype(int) for i in range(4)]
    for found, expected in zip(middle, [(40, 40, 40), (120, 0, 0), (0, 120, 0), (0, 0, 120)], strict=True):
        assert found == pytest.approx(expected, abs=14)  # H.264
    result_video(tmp_path, COPY, rows[0].pair).unlink()
    blank = worst_sheet(report_of(rows), "self", "mine", tmp_path)
    assert blank.shape == sheet.shape and (blank[22 + 4 + height // 2, 194 + 3 * (width + 4) + 9] == 230).all()
