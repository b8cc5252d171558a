from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import DataError, FaceError, MediaError
from megaportraits.evaluation.protocol import Clip, evaluate_clip, read_clip
from megaportraits.evaluation.run import Settings, evaluate_self, find_clips
from megaportraits.faces import FaceAnalyzer
from tests.evaluation.conftest import SIZE, Frozen, Grey, Perfect

SETTINGS = Settings("none", "0" * 64, "0", SIZE, 10)


def test_the_source_is_of_the_first_second_and_no_driver_is_the_source(clip: Clip) -> None:
    assert clip.source_frame <= 25 and clip.source_frame % 2 == 0
    assert len(clip.frames) == 24
    assert not any(true.face is clip.face for true in clip.frames)


def test_reading_twice_gives_the_same(talking: Path, analyzer: FaceAnalyzer) -> None:
    first, second = (read_clip(talking, analyzer, 64, 4) for _ in range(2))
    assert first.source_frame == second.source_frame
    for a, b in zip(first.frames, second.frames, strict=True):
        np.testing.assert_array_equal(a.square, b.square)
        assert a.crop == b.crop


def test_frames_without_a_face_are_counted_not_measured(turned_away: Path, analyzer: FaceAnalyzer) -> None:
    clip = read_clip(turned_away, analyzer, 64, 10)
    assert (len(clip.frames), clip.lost) == (2, 3)


def test_a_clip_without_a_face_is_refused(empty_room: Path, analyzer: FaceAnalyzer) -> None:
    with pytest.raises(FaceError, match="first second"):
        read_clip(empty_room, analyzer, 64, 4)


def test_a_perfect_copy_has_full_marks(clip: Clip, analyzer: FaceAnalyzer) -> None:
    result = evaluate_clip(Perfect(), clip, analyzer)
    for region in ("face", "mouth", "eyes"):
        assert result.metrics[f"self/psnr_{region}"] == math.inf
        assert 10 < result.metrics[f"self/floor_psnr_{region}"] < 45
    assert result.metrics["self/detected_mediapipe478"] == 1
    assert result.metrics["self/corr_lip_gap_mediapipe478"] > 0.9
    for signal in ("yaw", "pitch"):
        assert result.metrics[f"self/corr_{signal}_mediapipe478"] > 0.95
        assert result.metrics[f"self/gain_{signal}_mediapipe478"] == pytest.approx(1, abs=0.15)
    same = {name: value for name, value in result.metrics.items() if name.startswith("self/true_")}
    for name, value in same.items():
        np.testing.assert_equal(result.metrics[name.replace("true_", "")], value)
    assert {key: len(shown) for key, shown in result.pictures.items()} == {
        "source": 1,
        "driver": 5,
        "floor": 5,
        "model": 5,
    }


def test_a_frozen_picture_does_not_follow(clip: Clip, analyzer: FaceAnalyzer) -> None:
    result = evaluate_clip(Frozen(analyzer), clip, analyzer)
    assert result.metrics["self/psnr_mouth"] < 30
    assert abs(result.metrics["self/gain_yaw_mediapipe478"]) < 0.05
    assert abs(result.metrics["self/gain_lip_gap_mediapipe478"]) < 0.05


def test_outputs_without_a_face_give_a_reason_instead_of_a_correlation(clip: Clip, analyzer: FaceAnalyzer) -> None:
    short = Clip(clip.name, clip.photo, clip.face, clip.source_frame, clip.frames[:3], 0)
    result = evaluate_clip(Grey(), short, analyzer)
    assert result.metrics["self/detected_mediapipe478"] == 0
    assert math.isnan(result.metrics["self/corr_yaw_mediapipe478"])
    assert result.reasons["self/corr_yaw_mediapipe478"] == "0 common frames, at least 8 needed"


def test_a_report_names_every_number_and_every_clip_that_failed(
    talking: Path, empty_room: Path, tmp_path: Path, analyzer: FaceAnalyzer
) -> None:
    told: list[tuple[int, int | None]] = []
    report = evaluate_self(
        Perfect(),
        [talking, empty_room],
        lambda **_: analyzer,
        SETTINGS,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (10, 10)
    paths = report.write(tmp_path / "out")
    assert [path.name for path in paths] == ["report.json", "report.md", "contact.png"]
    before = [path.read_bytes() for path in paths]
    assert report.write(tmp_path / "out") == paths
    assert [path.read_bytes() for path in paths] == before
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    assert content["protocol"] == "self" and content["settings"]["size"] == SIZE
    assert [clip["name"] for clip in content["clips"]] == ["driver"]
    assert list(content["failed"]) == ["wall.mp4"]
    assert content["metrics"]["self/psnr_face"] is None  # infinite
    assert content["metrics"]["self/floor_psnr_face"] == content["clips"][0]["metrics"]["self/floor_psnr_face"]
    text = paths[1].read_text(encoding="utf-8")
    assert "wall.mp4" in text and "| driver |" in text


def test_clips_are_files_as_given_and_folders_by_name(talking: Path, empty_room: Path, tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(talking.read_bytes())
    (tmp_path / "a.mp4").write_bytes(empty_room.read_bytes())
    (tmp_path / "notes.txt").write_text("no video")
    assert [path.name for path in find_clips([tmp_path])] == ["a.mp4", "b.mp4"]
    assert find_clips([talking]) == [talking]
    with pytest.raises(MediaError, match="no such file"):
        find_clips([tmp_path / "c.mp4"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="none"):
        find_clips([tmp_path / "empty"])
