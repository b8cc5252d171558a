"""The clips of the student's self-reenactment: chosen at random, one photograph each, none used in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import DataError
from megaportraits.evaluation.methods.base import TRUE
from megaportraits.evaluation.metrics.measure import PairResult
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.reenactment import check_held_out, draw_pairs, figure, table, write_avatars
from megaportraits.evaluation.report.results import PairRow, Report
from megaportraits.evaluation.store import SampleNote
from megaportraits.faces import FaceAnalyzer
from megaportraits.media import VideoReader, read_image


@pytest.fixture
def folder(talking: Path, empty_room: Path, tmp_path: Path) -> Path:
    """Three people, who are one, and a wall."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in "abc":
        (clips / f"{name}.mp4").symlink_to(talking)
    (clips / "wall.mp4").symlink_to(empty_room)
    return clips


def test_clips_are_drawn_by_their_seed_and_their_source_frames_become_photographs(
    folder: Path, analyzer: FaceAnalyzer, tmp_path: Path
) -> None:
    clips = sorted(folder.iterdir())
    told: list[str] = []
    draws = {tuple(p.key for p in draw_pairs(clips, analyzer, count=2, seed=seed, frames=4)): seed for seed in range(6)}
    assert len(draws) > 1 and all(list(keys) == sorted(keys) and "wall" not in keys for keys in draws)
    (again, seed), *_ = draws.items()
    pairs = draw_pairs(clips, analyzer, count=2, seed=seed, frames=4)
    assert tuple(p.key for p in pairs) == again and pairs[0].source == pairs[0].driver and pairs[0].frames == 4
    all_three = draw_pairs(clips, analyzer, count=3, seed=1, frames=4, skipped=lambda p, why: told.append(p.name))
    assert [p.key for p in all_three] == ["a", "b", "c"] and set(told) <= {"wall.mp4"}
    with pytest.raises(DataError, match="at least 4 clips with a face"):
        draw_pairs(clips, analyzer, count=4, seed=1, frames=4)
    (photo,) = write_avatars(tmp_path / "avatars", pairs[:1])
    wanted = [frame.image for frame in VideoReader(pairs[0].source)][pairs[0].source_frame or 0]
    assert photo.name == f"{pairs[0].key}.png"
    np.testing.assert_array_equal(read_image(photo), wanted)


def test_test_clips_among_the_drivers_are_refused(folder: Path, tmp_path: Path) -> None:
    clips = sorted(folder.iterdir())
    check_held_out(clips, [tmp_path / "others"])
    with pytest.raises(DataError, match=r"a\.mp4 is a test clip, but it is in --drivers"):
        (folder / "a.mp4").unlink()
        (folder / "a.mp4").write_bytes(b"x")
        check_held_out(clips, [folder])


def test_the_figure_has_source_driver_teacher_and_student_and_the_table_names_the_papers_numbers() -> None:
    def result(level: int, **metrics: float) -> PairResult:
        picture = np.full((16, 16, 3), level, np.uint8)
        return PairResult(metrics, {}, np.zeros((2, 3), np.float32), np.zeros((2, 10)), [picture] * 5)

    grey = np.full((16, 16, 3), 30, np.uint8)
    note = SampleNote(2, 0, 25.0, np.zeros((2, 10)), grey, np.zeros((1, 3)), np.zeros((2, 2, 3)), (grey, grey))
    known = {"psnr": 20.0, "ssim": 0.5, "psnr_masked": 25.0, "ssim_masked": 0.75}
    results = {TRUE: result(60), "teacher": result(90, **known), "student": result(120, **(known | {"psnr": 18.0}))}
    row = PairRow(Pair("ann", "self", Path("ann.mp4"), 0, Path("ann.mp4")), note, results)
    report = Report({}, {name: {} for name in results}, [row], "csim_sface", "p", "f", None, {})
    sheet = figure(report, "teacher", "student")
    middle = sheet[sheet.shape[0] // 2, [192 + 96 + i * 192 for i in range(4)], 0]
    assert middle.tolist() == [30, 60, 90, 120]
    text = table(report, "teacher", "student")
    assert "| teacher | 20.00 | 0.500 | 25.00 | 0.750 | 21.34, 0.768 |" in text
    assert "| student | 18.00 | 0.500 | 25.00 | 0.750 | 19.25, 0.682 |" in text
    row.results.pop("teacher")
    with pytest.raises(DataError, match="teacher and student"):
        figure(report, "teacher", "student")
