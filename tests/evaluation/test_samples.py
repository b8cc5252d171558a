from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import DataError, FaceError
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.samples import EvaluationSample, best_source_frame, read_sample
from megaportraits.faces import FaceAnalyzer
from megaportraits.faces.matting import Matting


def test_the_source_is_of_the_first_second_and_never_drives_itself(sample: EvaluationSample) -> None:
    number = sample.pair.source_frame
    assert number is not None and number <= 25 and number % 2 == 0
    assert len(sample.frames) == 12
    assert number not in [true.number for true in sample.frames]
    assert {
        b - a for a, b in zip([t.number for t in sample.frames], [t.number for t in sample.frames][1:], strict=False)
    } <= {
        4,
        8,
    }


def test_reading_twice_gives_the_same(pair: Pair, analyzer: FaceAnalyzer, matting: Matting) -> None:
    first, second = (read_sample(replace(pair, frames=2), analyzer, matting, 64) for _ in range(2))
    for a, b in zip(first.frames, second.frames, strict=True):
        np.testing.assert_array_equal(a.square, b.square)
        assert a.crop == b.crop and a.number == b.number
        np.testing.assert_array_equal(a.head, b.head)


def test_the_masked_head_holds_the_face_and_no_corner(sample: EvaluationSample) -> None:
    true = sample.frames[0]
    assert true.head is not None
    assert (true.head & true.regions.face).sum() > 0.98 * true.regions.face.sum()
    assert true.head.sum() > 1.15 * true.regions.face.sum()  # hair and ears besides
    assert not true.head[:4, :4].any() and not true.head[-4:, -4:].any()


def test_frames_without_a_face_are_counted_not_measured(
    turned_away: Path, analyzer: FaceAnalyzer, matting: Matting
) -> None:
    pair = Pair("away", "cross", turned_away, 0, turned_away, step=2, frames=10)
    sample = read_sample(pair, analyzer, matting, 64)
    assert (len(sample.frames), sample.lost) == (2, 3)
    assert sample.frames[0].head is None


def test_a_clip_without_a_face_is_refused(
    talking: Path, empty_room: Path, analyzer: FaceAnalyzer, matting: Matting
) -> None:
    with pytest.raises(FaceError, match="first second"):
        best_source_frame(empty_room, analyzer)
    with pytest.raises(FaceError, match=r"driver wall\.mp4"):
        read_sample(Pair("x", "cross", talking, 0, empty_room), analyzer, matting, 64)
    with pytest.raises(DataError, match="no frame 9999"):
        read_sample(Pair("x", "cross", talking, 9999, talking), analyzer, matting, 64)


def test_the_plate_is_the_background_without_the_person(sample: EvaluationSample, matting: Matting) -> None:
    plate = sample.plate(matting)
    assert plate.shape == sample.source.shape
    face = sample.frames[0].regions.face
    assert np.abs(plate.astype(int) - sample.source)[face].mean() > 20
    assert np.abs(plate.astype(int) - sample.source)[:6, :6].mean() < 6
