from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import ConfigError, MediaError
from megaportraits.live import screens
from megaportraits.live.cameras import open_camera, paced
from megaportraits.media import VideoReader, VideoWriter


def write(path: Path, count: int) -> Path:
    with VideoWriter(path, fps=10) as writer:
        for index in range(count):
            writer.write(np.full((32, 48, 3), 20 * index, np.uint8))
    return path


def test_recordings_keep_the_times_at_which_frames_were_caught(tmp_path: Path) -> None:
    with screens.file(tmp_path / "out.mp4", fps=25) as screen:
        for moment in (100.0, 100.04, 100.04, 100.24):  # the same time twice moves on by one tick
            screen.show(np.zeros((32, 32, 3), np.uint8), moment, "")
    times = [frame.time for frame in VideoReader(tmp_path / "out.mp4")]
    assert np.allclose(times, [0, 0.04, 0.041, 0.24], atol=1e-6)


def test_a_video_plays_at_its_own_speed_and_frames_carry_when_they_came(tmp_path: Path) -> None:
    path, clock = write(tmp_path / "in.mp4", 4), iter(np.arange(1000.0, 2000.0, 10.0))
    # A clock on which everything is late: nothing waits, and every frame comes with the moment it came.
    frames = list(paced(path, clock=lambda: float(next(clock))))
    assert [round(frame.time) for frame in frames] == [1020, 1040, 1060, 1080]
    assert [int(frame.image.mean().round(-1)) for frame in frames] == [0, 20, 40, 60]


def test_mirrors_mirror(tmp_path: Path) -> None:
    left = np.zeros((32, 32, 3), np.uint8)
    left[:, :16] = 255
    with VideoWriter(tmp_path / "left.mp4", fps=10) as writer:
        writer.write(left)
    (seen,) = open_camera(str(tmp_path / "left.mp4"), mirror=True)
    assert seen.image[:, 20:].mean() > 200 > 50 > seen.image[:, :12].mean()


def test_cameras_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="webcam 77"):
        open_camera("77")
    with pytest.raises(MediaError, match="no such file"):
        open_camera(str(tmp_path / "none.mp4"))


def test_a_machine_without_windows_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.getBuildInformation", lambda: "  GUI:                           NONE\n")
    assert "opencv-python" in str(screens.window_problem())
    with pytest.raises(ConfigError, match="built without windows"), screens.window():
        pass
    monkeypatch.setattr("cv2.getBuildInformation", lambda: "  GUI:                           QT5\n")
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "display" in str(screens.window_problem())
    monkeypatch.setenv("DISPLAY", ":0")
    assert screens.window_problem() is None


def test_a_virtual_camera_that_cannot_be_had_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pyvirtualcam is not installed"), screens.virtual_camera(25):
        pass
