"""Held-out shards as files that evaluation reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ClipIndex, ShardWriter
from megaportraits.errors import DataError, WeightsError
from megaportraits.evaluation.pairs import read_manifest
from megaportraits.evaluation.plan import find_media
from megaportraits.evaluation.samples import read_sample
from megaportraits.evaluation.shards import files_of
from megaportraits.faces import FaceAnalyzer
from megaportraits.faces.matting import Matting
from megaportraits.media import VideoReader, read_image
from tests.prepare.damage import portrait


def write(folder: Path, *clips: tuple[str, str, int], picture: np.ndarray | None = None) -> Path:
    """A shard of clips: key, person, number of frames."""
    label = FrameLabels(np.eye(3), np.zeros(2), 1.0)
    rng = np.random.default_rng(0)
    with ShardWriter(folder, 0) as shard:
        for key, person, count in clips:
            image = picture if picture is not None else rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
            size = image.shape[0]
            frames = [
                ClipFrame(np.roll(image, j, 1), np.full((size, size), 255, np.uint8), label) for j in range(count)
            ]
            shard.write(ClipRecord(key, "real", person, None, size, 5.0, (), (label,) * count), frames)
    return folder


def test_a_video_holds_the_frames_of_its_clip_exactly(tmp_path: Path) -> None:
    shards = write(tmp_path / "val", ("talk-000", "ann", 4))
    (file,) = files_of([shards], tmp_path / "media", videos=True, limit=9)
    assert file.name == "talk-000.mkv" and find_media([file], videos=True) == [file]
    read = list(VideoReader(file))
    stored = [frame.image for frame in ClipIndex(shards).read_clip(0)[1]]
    assert len(read) == 4 and all(np.array_equal(a.image, b) for a, b in zip(read, stored, strict=True))
    assert [round(frame.time, 3) for frame in read] == [0, 0.2, 0.4, 0.6]
    (still,) = files_of([shards], tmp_path / "media", videos=False, limit=9)
    assert still.name == "talk-000.png" and np.array_equal(read_image(still), stored[0])


def test_of_each_video_the_longest_clip_is_taken_and_people_take_turns(tmp_path: Path) -> None:
    clips = [("a-000", "ann", 2), ("a-001", "ann", 3), ("b-000", "ann", 2), ("c-000", "ben", 2), ("d-000", "cy", 1)]
    shards = write(tmp_path / "val", *clips)

    def chosen(limit: int, *, videos: bool = True) -> list[str]:
        return [file.stem for file in files_of([shards], tmp_path / "media", videos=videos, limit=limit)]

    assert chosen(9) == ["a-001", "c-000", "b-000"]
    assert chosen(2) == ["a-001", "c-000"]
    assert chosen(9, videos=False) == ["a-001", "c-000", "d-000", "b-000"]
    stills = write(tmp_path / "stills", ("x-000", "ann", 1))
    with pytest.raises(DataError, match="no clip with 2 or more frames"):
        files_of([stills], tmp_path / "media", videos=True, limit=9)


def test_files_are_made_once_and_again_for_other_shards(tmp_path: Path) -> None:
    shards = write(tmp_path / "val", ("a-000", "ann", 2))
    (first,) = files_of([shards], tmp_path / "media", videos=True, limit=1)
    first.write_bytes(b"kept")
    (again,) = files_of([shards], tmp_path / "media", videos=True, limit=1)
    assert again == first and again.read_bytes() == b"kept"
    (shards / "clips-000000.tar").unlink()
    write(shards, ("a-000", "ann", 3))
    (other,) = files_of([shards], tmp_path / "media", videos=True, limit=1)
    assert other != first and len(list(VideoReader(other))) == 3


def test_pairs_takes_folders_of_shards_and_every_stored_frame(tmp_path: Path) -> None:
    try:
        analyzer, matting = FaceAnalyzer(), Matting()
    except WeightsError as error:
        pytest.skip(f"weights cannot be had: {error}")
    image = portrait(0)
    side = min(image.shape[:2])
    square = np.asarray(cv2.resize(image[:side, :side], (256, 256), interpolation=cv2.INTER_AREA))
    clips = write(tmp_path / "val", ("a-000", "ann", 4), picture=square)
    stills = write(tmp_path / "stills", ("b-000", "ben", 1), picture=square)
    line = ["pairs", "-o", str(tmp_path / "pairs.csv"), "--clips", str(clips), "--stills", str(stills)]
    result = CliRunner().invoke(app, line, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    pairs = read_manifest(tmp_path / "pairs.csv")
    assert [(pair.protocol, pair.key, pair.step) for pair in pairs] == [
        ("self", "a-000", 1),
        ("cross", "b-000-a-000", 1),
    ]
    assert all(pair.driver.is_relative_to(tmp_path / "pairs.media") for pair in pairs)
    sample = read_sample(replace(pairs[1], frames=2), analyzer, matting, 64)
    assert [true.number for true in sample.frames] == [0, 1] and sample.fps == 5
