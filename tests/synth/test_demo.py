"""Procedural people of the demos."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import av
import numpy as np

from megaportraits.media import read_image
from megaportraits.synth.demo import render_driver, render_portrait


def test_the_driver_is_a_video_of_the_asked_length_that_moves(toy_path: Path, tmp_path: Path) -> None:
    render_driver(toy_path, tmp_path / "driver.mp4", seconds=1, size=64)
    with av.open(str(tmp_path / "driver.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 25 and frames[0].shape == (64, 64, 3)
    assert np.abs(frames[0].astype(int) - frames[10]).max() > 30


def test_the_shipped_driver_is_small_and_complete() -> None:
    path = files("megaportraits") / "assets/demo/driver.mp4"
    assert len(path.read_bytes()) < 600_000
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate, stream.codec_context.name) == (256, 256, 25, "h264")
        assert sum(1 for _ in video.decode(video=0)) == 100


def test_a_portrait_is_one_person_at_rest_in_front_of_a_wall(toy_path: Path, tmp_path: Path) -> None:
    for person in (1, 2):
        render_portrait(toy_path, tmp_path / f"{person}.png", size=64, person=person)
    first, second = (read_image(tmp_path / f"{person}.png") for person in (1, 2))
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first[:2], second[:2])  # the wall
    assert not np.array_equal(first, second)
