from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.errors import MediaError
from megaportraits.media import VideoReader, read_image
from megaportraits.pipeline import AnimateOptions, Avatar
from megaportraits.pipeline.demo import contact_sheet, demo_driver, demo_portrait, run_demo


def test_the_demo_writes_a_portrait_two_videos_and_a_picture_and_replaces_them_only_when_asked(
    avatar: Avatar, tmp_path: Path
) -> None:
    options = AnimateOptions(max_seconds=0.1, size=64)
    first = run_demo(avatar, tmp_path / "out", options)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["contact.png", "portrait.png", "result.mp4", "side_by_side.mp4"]
    assert read_image(first.portrait).shape == (512, 512, 3)
    assert [frame.image.shape for frame in VideoReader(first.result)] == [(512, 512, 3)] * 3
    assert [frame.image.shape for frame in VideoReader(first.side_by_side)] == [(64, 192, 3)] * 3
    before = first.contact.read_bytes()
    with pytest.raises(MediaError, match=r"portrait\.png: the file exists already"):
        run_demo(avatar, tmp_path / "out", options)
    assert run_demo(avatar, tmp_path / "out", options, overwrite=True) == first
    assert first.contact.read_bytes() == before


def test_nothing_of_the_demo_is_written_where_one_of_its_names_is_taken(avatar: Avatar, tmp_path: Path) -> None:
    (tmp_path / "contact.png").write_bytes(b"mine")
    line = ["demo", "--out", str(tmp_path), "--weights", "no such weights"]
    result = CliRunner().invoke(app, line)
    assert isinstance(result.exception, MediaError) and "contact.png" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["contact.png"]
    assert (tmp_path / "contact.png").read_bytes() == b"mine"


def test_the_bundled_driver_shows_a_face_in_every_frame_it_is_sampled_at(avatar: Avatar) -> None:
    frames = list(VideoReader(demo_driver()))
    assert len(frames) == 100
    assert all(avatar.analyzer.detect(frame.image) for frame in frames[::20])


def test_an_interrupted_demo_stops_and_does_not_pretend_to_be_complete(avatar: Avatar, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_demo(avatar, tmp_path, AnimateOptions(max_seconds=0.1, size=64), progress=interrupt)
    assert not (tmp_path / "contact.png").exists()


def test_the_contact_sheet_shows_drivers_above_results_beside_the_photograph() -> None:
    rows = [
        np.concatenate([np.full((8, 8, 3), value, np.uint8) for value in (0, 100 + i, 200 + i)], axis=1)
        for i in range(8)
    ]
    sheet = contact_sheet(demo_portrait(), rows, columns=6)
    assert sheet.shape == (16, 8 * 8, 3)
    assert sheet[0, 16::8, 0].tolist() == [101, 102, 103, 104, 105, 106]
    assert sheet[15, 16::8, 0].tolist() == [201, 202, 203, 204, 205, 206]
