"""Animated pictures are videos; videos without usable times play at their nominal rate."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from megaportraits.errors import MediaError
from megaportraits.media import Limits, VideoReader, is_video, read_image

DURATIONS = [40, 40, 120, 40, 200, 40]
GREYS = [20, 60, 100, 140, 180, 220]


def animate(path: Path, durations: list[int], **options: object) -> Path:
    frames = [Image.new("RGB", (48, 32), (grey, grey, grey)) for grey in GREYS]
    if path.suffix == ".webp":
        options |= {"lossless": True}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options)
    return path


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif", ".avif"])
def test_an_animated_picture_plays_at_its_own_times(tmp_path: Path, suffix: str) -> None:
    path = animate(tmp_path / f"a{suffix}", DURATIONS)
    assert is_video(path)
    reader = VideoReader(path)
    for _ in range(2):
        frames = list(reader)
        assert [round(1000 * frame.time) for frame in frames] == [0, *itertools.accumulate(DURATIONS[:-1])]
        assert np.abs([int(frame.image[16, 24, 0]) for frame in frames] - np.array(GREYS)).max() <= 3
    assert reader.info.frames == 6
    assert (reader.info.width, reader.info.height) == (48, 32)
    assert reader.info.fps == Fraction(6000, 480)
    assert reader.damage is None


def test_frames_that_claim_no_duration_are_shown_as_browsers_do(tmp_path: Path) -> None:
    reader = VideoReader(animate(tmp_path / "a.webp", [0] * 6))
    assert [frame.time for frame in reader] == pytest.approx([0.1 * i for i in range(6)])


def test_one_picture_in_an_animated_format_is_a_picture(tmp_path: Path) -> None:
    for suffix in (".webp", ".gif", ".png"):
        Image.new("RGB", (8, 8), (9, 99, 9)).save(tmp_path / f"a{suffix}")
        assert not is_video(tmp_path / f"a{suffix}")
        with pytest.raises(MediaError, match="got a still picture"):
            VideoReader(tmp_path / f"a{suffix}")


def test_transparent_frames_are_shown_over_white(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (16, 16), (200, 0, 0, alpha)) for alpha in (255, 0, 51)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    shown = [frame.image[8, 8].tolist() for frame in VideoReader(tmp_path / "a.webp")]
    assert shown == [[200, 0, 0], [255, 255, 255], [244, 204, 204]]


def test_the_default_picture_of_an_animated_png_is_not_a_frame(tmp_path: Path) -> None:
    path = animate(tmp_path / "a.png", DURATIONS, default_image=True)
    assert [int(frame.image[0, 0, 0]) for frame in VideoReader(path)] == GREYS[1:]
    assert read_image(path)[0, 0, 0] == GREYS[0]


def test_a_truncated_animation_gives_what_decodes_and_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (6, 40, 40, 3), np.uint8)
    frames = [Image.fromarray(picture) for picture in noise]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40)
    whole = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(whole[: len(whole) * 6 // 10])
    reader = VideoReader(tmp_path / "a.gif")
    assert 2 <= len(list(reader)) < 6


def test_limits_hold_for_animated_pictures(tmp_path: Path) -> None:
    path = animate(tmp_path / "a.webp", [100] * 6)
    for limits in (Limits(frames=5), Limits(seconds=0.5), Limits(pixels=48 * 32 - 1), Limits(bytes=20)):
        with pytest.raises(MediaError, match="at most"):
            VideoReader(path, limits=limits)
    assert VideoReader(path, limits=Limits(frames=6, seconds=0.6, pixels=48 * 32)).info.frames == 6


def untimed(path: Path, container: str, times: list[int | None], time_base: Fraction, rate: int = 30) -> Path:
    """A video whose packets carry the given times."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        pictures = [np.full((32, 48, 3), 5 * index, np.uint8) for index in range(len(times))]
        packets = [p for image in pictures for p in stream.encode(av.VideoFrame.from_ndarray(image))]
        for packet, time in zip([*packets, *stream.encode(None)], times, strict=True):
            packet.time_base, packet.pts, packet.dts, packet.duration = time_base, time, time, 0
            out.mux(packet)
    return path


@pytest.mark.parametrize(
    ("container", "times", "time_base"),
    [
        ("mp4", [0] * 40, Fraction(1, 90000)),
        ("matroska", [0] * 40, Fraction(1, 1000)),
        ("matroska", [5000] * 40, Fraction(1, 1000)),
        ("matroska", list(range(40)), Fraction(1, 1000)),
        ("mp4", list(range(40)), Fraction(1, 15360)),
    ],
)
def test_a_video_without_usable_times_plays_at_its_nominal_rate(
    tmp_path: Path, container: str, times: list[int], time_base: Fraction
) -> None:
    reader = VideoReader(untimed(tmp_path / "a.bin", container, times, time_base))
    assert reader.info.fps == 30
    frames = list(reader)
    assert len(frames) == 40
    assert frames[0].time == pytest.approx(float(times[0] * time_base), abs=1e-3)
    steps = [b.pts * b.time_base - a.pts * a.time_base for a, b in itertools.pairwise(frames)]
    assert set(steps) == {Fraction(1, 30)}


def test_slow_motion_and_repeated_times_keep_the_other_times(tmp_path: Path) -> None:
    times = [4 * i for i in range(20)]
    slow = VideoReader(untimed(tmp_path / "slow.mkv", "matroska", times, Fraction(1, 1000), rate=240))
    assert [round(1000 * frame.time) for frame in slow] == times
    times = [0, 33, 33, 100, 133, 167, 200]
    reader = VideoReader(untimed(tmp_path / "once.mkv", "matroska", times, Fraction(1, 1000)))
    assert [round(1000 * frame.time) for frame in reader] == [0, 33, 66, 100, 133, 167, 200]
