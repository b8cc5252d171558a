from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from megaportraits.errors import ConfigError, MediaError
from megaportraits.live import screens
from megaportraits.live.cameras import open_camera, paced
from megaportraits.live.screens import Reply
from megaportraits.media import VideoReader, VideoWriter
from megaportraits.media.certificates import load_credentials, make_test_credentials
from megaportraits.media.credentials import read_statement
from megaportraits.media.provenance import Origin


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


def test_recordings_are_signed_when_they_end(tmp_path: Path) -> None:
    credentials = load_credentials(*make_test_credentials(tmp_path / "pair"))
    sign = credentials.signer(Origin("student", composite=False))
    with screens.file(tmp_path / "out.mp4", fps=25, sign=sign) as screen:
        screen.show(np.zeros((32, 32, 3), np.uint8), 0.0, "")
    statement = read_statement(tmp_path / "out.mp4")
    assert statement is not None and statement.intact and statement.generation["model"] == "student"


def test_recordings_have_the_sound_of_the_video_that_plays_where_it_belongs(tmp_path: Path) -> None:
    """The first face comes after 0.2 s: the picture starts there, and the sound at 0."""
    sounding = tmp_path / "in.mkv"
    with av.open(str(sounding), "w") as output:
        sound = output.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 16000, 1024):
            part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            part.sample_rate, part.pts = 16000, start
            output.mux(sound.encode(part))
        output.mux(sound.encode(None))
    picture = np.zeros((32, 32, 3), np.uint8)
    with screens.file(tmp_path / "out.mp4", fps=25, sound_of=sounding) as screen:
        for moment in (100.0, 100.1):
            assert screen.wait(picture, moment) is Reply.MORE
        for moment in (100.2, 100.3, 100.5):
            assert screen.show(picture, moment, "") is Reply.MORE
    assert np.allclose([frame.time for frame in VideoReader(tmp_path / "out.mp4")], [0.2, 0.3, 0.5], atol=1e-6)
    with av.open(str(tmp_path / "out.mp4")) as recorded:
        times = [float(p.pts * p.time_base) for p in recorded.demux(recorded.streams.audio[0]) if p.size]
    assert times[0] == pytest.approx(0, abs=0.07) and 0.4 < times[-1] < 0.6


class Desktop:
    """In the place of OpenCV's windows: keys that are pressed, and a window that somebody closes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, keys: str = "", visible: tuple[float, ...] = ()) -> None:
        self.shown: list[tuple[int, ...]] = []
        self._keys, self._visible = list(keys), list(visible)
        monkeypatch.setattr(screens, "window_problem", lambda: None)
        for name in ("namedWindow", "destroyAllWindows"):
            monkeypatch.setattr(f"cv2.{name}", lambda *arguments: None)
        monkeypatch.setattr("cv2.imshow", lambda title, picture: self.shown.append(picture.shape))
        monkeypatch.setattr("cv2.waitKey", lambda delay: ord(self._keys.pop(0)) if self._keys else -1)
        monkeypatch.setattr("cv2.getWindowProperty", lambda title, what: self._visible.pop(0) if self._visible else 1.0)


PICTURE = np.zeros((64, 64, 3), np.uint8)


def test_keys_are_understood_with_and_without_a_face(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, wanted in (("q", Reply.LEAVE), ("\x1b", Reply.LEAVE), ("n", Reply.NEUTRAL), ("x", Reply.MORE)):
        desktop = Desktop(monkeypatch, keys=2 * key)
        with screens.window() as screen:
            assert screen.show(PICTURE, 0.0, "fast") is wanted
            assert screen.wait(np.zeros((720, 1280, 3), np.uint8), 0.1) is wanted
        assert desktop.shown == [(64, 64, 3), (270, 480, 3)]


def test_closing_the_window_ends_the_show(monkeypatch: pytest.MonkeyPatch) -> None:
    desktop = Desktop(monkeypatch, visible=(1, 1, 0))
    with screens.window() as screen:
        assert [screen.show(PICTURE, float(i), "") for i in range(3)] == [Reply.MORE, Reply.MORE, Reply.LEAVE]
    assert len(desktop.shown) == 2  # nothing opens it again


def test_a_window_that_cannot_tell_whether_it_is_visible_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    Desktop(monkeypatch, visible=(-1,) * 9)
    with screens.window() as screen:
        assert {screen.show(PICTURE, float(i), "") for i in range(9)} == {Reply.MORE}


def test_a_virtual_camera_shows_nobody_rather_than_the_person_before_the_real_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(screens, "require", lambda *names: None)
    monkeypatch.setattr(screens, "_open_virtual_camera", lambda *arguments: pytest.fail("a picture was sent"))
    with screens.virtual_camera(25) as screen:
        assert screen.wait(PICTURE, 0.0) is Reply.MORE


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


def test_the_reason_why_no_window_opens_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr("megaportraits.extras.find_spec", lambda name: None)
    with (
        pytest.raises(ConfigError, match=r"pyvirtualcam, which is not installed(.|\n)*megaportraits\[camera\]"),
        screens.virtual_camera(25),
    ):
        pass
