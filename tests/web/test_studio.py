"""The queue of jobs: one at a time, separate files for each visitor, and stopping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from megaportraits.errors import ConfigError, MediaError, MegaPortraitsError
from megaportraits.media import Limits, VideoReader, write_image
from megaportraits.media.certificates import load_credentials, make_test_credentials
from megaportraits.media.credentials import read_statement
from megaportraits.pipeline import AnimateOptions, Avatar
from megaportraits.web import studio as module
from megaportraits.web.studio import LONGEST_LINE, Stopped, Studio
from tests.pipeline.conftest import analyzer, avatar, moved, portrait, write_video

__all__ = ["analyzer", "avatar", "portrait"]
NOT_TOLD: Callable[..., None] = lambda *told: None  # noqa: E731


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A picture and a video that nobody looks into but to tell which is which."""
    grey = np.full((32, 32, 3), 90, np.uint8)
    return write_image(tmp_path / "photo.png", grey), write_video(tmp_path / "driver.mp4", [grey] * 2)


class Slow:
    """In place of `animate_file`: takes two frames, and goes on when the test says so."""

    def __init__(self) -> None:
        self.running, self.go_on = threading.Event(), threading.Event()
        self.together = self.most = 0

    def __call__(self, avatar: Any, photo: Path, driver: Path, folder: str, *_: Any, progress: Any, **__: Any) -> Any:
        output = Path(folder) / "result.mp4"
        self.together += 1
        self.most = max(self.most, self.together)
        self.running.set()
        try:
            for frame in (1, 2):
                assert self.go_on.wait(600)
                progress(frame, 2)
        except KeyboardInterrupt:
            return SimpleNamespace(output=output, interrupted=True)
        finally:
            self.together -= 1
        output.write_bytes(b"a video")
        return SimpleNamespace(output=output, interrupted=False)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    stand_in = Slow()
    monkeypatch.setattr(module, "animate_file", stand_in)
    return stand_in


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    (tmp_path / "results").mkdir()
    return Studio(cast(Avatar, None), tmp_path / "results")


def ask(studio: Studio, pool: ThreadPoolExecutor, who: str, files: tuple[Path, Path], told: Any = NOT_TOLD) -> Future:
    return pool.submit(studio.animate, who, *files, AnimateOptions(), told, NOT_TOLD)


def test_jobs_run_one_at_a_time_and_results_lie_apart(studio: Studio, slow: Slow, files: tuple[Path, Path]) -> None:
    slow.go_on.set()
    with ThreadPoolExecutor(4) as pool:
        jobs = [ask(studio, pool, who, files) for who in ("a", "b", "../../b", "a")]
        outputs = [job.result().output for job in jobs]
    assert slow.most == 1
    folders = {output.parent for output in outputs}
    assert len(folders) == 4 and all(output.is_file() for output in outputs)
    results = files[0].parent / "results"
    assert {folder.parent for folder in folders} == {results}  # whatever visitors call themselves


def test_a_waiting_visitor_sees_the_number_of_earlier_jobs_and_can_stop_at_once(
    studio: Studio, slow: Slow, files: tuple[Path, Path]
) -> None:
    told: list[int] = []
    waits = threading.Event()

    def waiting(ahead: int) -> None:
        told.append(ahead)
        waits.set()

    with ThreadPoolExecutor(2) as pool:
        first = ask(studio, pool, "first", files)
        assert slow.running.wait(600)
        second = ask(studio, pool, "second", files, waiting)
        assert waits.wait(600)
        studio.stop("second")
        with pytest.raises(Stopped):
            second.result(600)
        assert set(told) == {1} and not first.done()
        slow.go_on.set()
        assert not first.result(600).interrupted


def test_a_line_that_is_too_long_is_reported(studio: Studio, slow: Slow, files: tuple[Path, Path]) -> None:
    with ThreadPoolExecutor(LONGEST_LINE) as pool:
        jobs = [ask(studio, pool, "somebody", files) for _ in range(LONGEST_LINE)]
        while len(studio._line) < LONGEST_LINE:
            assert slow.running.wait(600)
        with pytest.raises(MegaPortraitsError, match=f"fewer than {LONGEST_LINE} jobs"):
            studio.animate("late", *files, AnimateOptions(), NOT_TOLD, NOT_TOLD)
        studio.stop("somebody")
        slow.go_on.set()
        ended = [job.exception(600) for job in jobs]
    assert sum(isinstance(error, Stopped) for error in ended) == LONGEST_LINE - 1
    assert ended.count(None) == 1  # the running one keeps its frames


def test_closing_ends_every_job_and_waits_for_the_running_one(
    studio: Studio, slow: Slow, files: tuple[Path, Path]
) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = ask(studio, pool, "a", files)
        assert slow.running.wait(600)
        second = ask(studio, pool, "b", files)
        while len(studio._line) < 2:
            time.sleep(0.01)
        closed = pool.submit(studio.close)
        with pytest.raises(Stopped):
            second.result(600)
        assert not closed.done()
        slow.go_on.set()
        closed.result(600)
        assert first.result(600).interrupted


def test_nobodys_file_is_looked_into_before_its_turn(
    studio: Studio, slow: Slow, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    look = module.is_video
    monkeypatch.setattr(module, "is_video", lambda path, limits: looked.append(path) or look(path, limits))
    waits = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = ask(studio, pool, "first", files)
        assert slow.running.wait(600)
        second = ask(studio, pool, "second", (files[0], files[0]), lambda ahead: waits.set())
        assert waits.wait(600) and looked == [files[1]]
        assert studio.files_in_use() == set(files)
        slow.go_on.set()
        first.result(600)
        with pytest.raises(MediaError, match="expected a video, got a picture"):
            second.result(600)
    assert looked == [files[1], files[0]] and studio.files_in_use() == set()


def test_what_exceeds_a_limit_is_refused_by_every_job(avatar: Avatar, portrait: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    photo = write_image(tmp_path / "photo.png", portrait)
    driver = write_video(tmp_path / "driver.mp4", [portrait] * 3)
    options = AnimateOptions(size=64, max_side=64)
    height, width = portrait.shape[:2]
    cases = {
        "at most 2 frames": Limits(frames=2),
        "at most 0.01 seconds": Limits(seconds=0.01),
        "expected a video of at most .* megapixels": Limits(frame_pixels=height * width - 1),
        "expected a picture of at most .* megapixels": Limits(pixels=height * width - 1),
        "at most 50 bytes": Limits(bytes=50),
    }
    for message, limits in cases.items():
        studio = Studio(avatar, tmp_path / "results", limits)
        with pytest.raises(MediaError, match=message):
            studio.preview("a", photo, driver, options, NOT_TOLD)
        with pytest.raises(MediaError, match=message):
            studio.animate("a", photo, driver, options, NOT_TOLD, NOT_TOLD)
    for limits in (cases["expected a picture of at most .* megapixels"], Limits(bytes=50)):
        with pytest.raises(MediaError, match="at most"):
            Studio(avatar, tmp_path / "results", limits).faces(photo)


def test_what_is_stopped_in_the_middle_plays_up_to_there(avatar: Avatar, portrait: np.ndarray, tmp_path: Path) -> None:
    photo = write_image(tmp_path / "photo.png", portrait)
    frames = [moved(portrait, i / 4) for i in range(12)]
    driver = write_video(tmp_path / "driver.mp4", frames)
    studio = Studio(avatar, tmp_path)

    def progress(done: int, total: int | None) -> None:
        assert total == 12
        if done == 5:
            studio.stop("a")

    report = studio.animate("a", photo, driver, AnimateOptions(size=64, max_side=64), NOT_TOLD, progress)
    assert report.interrupted and report.frames == 5
    assert len(list(VideoReader(report.output))) == 5
    assert report.output.name == "photo_driver.mp4"


def test_faces_are_numbered_as_the_options_count_them(avatar: Avatar, portrait: np.ndarray, tmp_path: Path) -> None:
    head = moved(portrait, 0)
    group = np.full((1152, 2340, 3), 90, np.uint8)
    group[240:816, :768] = np.kron(head[::2, ::2], np.ones((6, 6, 1), np.uint8))
    group[:, 804:] = np.kron(head, np.ones((6, 6, 1), np.uint8))
    found = Studio(avatar, tmp_path).faces(write_image(tmp_path / "group.jpg", group))
    assert found.picture.shape == (504, 1024, 3) and found.largest == 2
    for number in (1, 2):
        center = avatar.encode(group, face=number).head.face.box.reshape(2, 2).mean(0) * 1024 / 2340
        assert found.at(*center) == number
    assert found.at(2, 2) is None


def test_results_are_signed_and_transparent_ones_refused(avatar: Avatar, portrait: np.ndarray, tmp_path: Path) -> None:
    credentials = load_credentials(*make_test_credentials(tmp_path / "pair"))
    photo = write_image(tmp_path / "photo.png", portrait)
    driver = write_video(tmp_path / "driver.mp4", [moved(portrait, 0.0)] * 2)
    studio = Studio(avatar, tmp_path, credentials=credentials)
    report = studio.animate("a", photo, driver, AnimateOptions(crop=True, size=64), NOT_TOLD, NOT_TOLD)
    statement = read_statement(report.output)
    assert statement is not None and statement.intact and statement.generation["model"] == "model"
    with pytest.raises(ConfigError, match="transparent videos"):
        studio.animate("a", photo, driver, AnimateOptions(background="transparent"), NOT_TOLD, NOT_TOLD)
