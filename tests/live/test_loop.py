from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from megaportraits.errors import FaceError, MediaError
from megaportraits.live.latest import Latest, feed
from megaportraits.live.loop import LiveOptions, run_live
from megaportraits.live.screens import Reply
from megaportraits.media import VideoFrame
from megaportraits.media.images import UInt8
from megaportraits.pipeline.driver import DriverFrame
from tests.live.conftest import Mirror, Wall, compose, frame, look, numbers


def test_a_slot_gives_the_newest_and_counts_what_it_replaced() -> None:
    slot = Latest[int]()
    for item in (1, 2, 3):
        assert slot.put(item)
    assert (slot.take(), slot.dropped) == (3, 2)
    slot.put(4)
    slot.close()
    assert (slot.take(), slot.take(), slot.put(5)) == (4, None, False)


def test_an_error_of_the_feeder_reaches_the_taker_after_its_last_item() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise MediaError("unplugged")

    slot = Latest[int]()
    feed(broken(), slot).join(timeout=600)
    assert slot.take() == 1
    with pytest.raises(MediaError, match="unplugged"):
        slot.take()


def test_a_slow_network_gets_the_newest_frame_next_and_the_others_are_dropped() -> None:
    engine, wall, looked = Mirror(), Wall(), threading.Semaphore(0)
    engine.held = True

    def camera() -> Iterator[VideoFrame]:
        yield frame(1)
        assert engine.started.acquire(timeout=600)  # frame 1 is in the network, and stays there
        for number in range(2, 11):
            yield frame(number)
            assert looked.acquire(timeout=600)  # camera and tracker keep up meanwhile

    def looking(seen: VideoFrame) -> DriverFrame:
        if seen.pts == 10:  # frame 9 has been handed over: now the network gets done
            engine.held = False
            engine.allowed.release()
            assert wall.second.wait(600)
        if seen.pts > 1:
            looked.release()
        return look(seen)

    stats = run_live(camera(), looking, engine, compose, [wall])
    assert wall.shown == [1, 9, 10]
    assert stats.dropped == 7 and stats.shown == 3


def test_a_fast_network_shows_every_frame_in_order_and_time_is_measured() -> None:
    shown = threading.Semaphore(1)
    moments = iter(range(100, 200))

    def camera() -> Iterator[VideoFrame]:
        for number in range(1, 6):
            assert shown.acquire(timeout=600)
            yield frame(number)

    wall = Wall()
    options = LiveOptions(report=lambda stats: shown.release())
    stats = run_live(camera(), look, Mirror(), compose, [wall], options, clock=lambda: next(moments))
    assert wall.shown == [1, 2, 3, 4, 5] and stats.dropped == 0
    assert stats.fps == pytest.approx(1) and stats.latency == pytest.approx(100e3)
    assert "1.0 frames/s" in stats.line() and "0 dropped" in stats.line()


def test_without_a_face_the_last_picture_stays_and_is_counted() -> None:
    shown = threading.Semaphore(1)

    def camera() -> Iterator[VideoFrame]:
        for number in (7, 0, 8):
            assert shown.acquire(timeout=600)
            yield frame(number)

    wall = Wall()
    stats = run_live(camera(), look, Mirror(), compose, [wall], LiveOptions(report=lambda stats: shown.release()))
    assert wall.shown == [7, 7, 8] and stats.faceless == 1


def test_a_camera_that_never_shows_a_face_is_an_error() -> None:
    with pytest.raises(FaceError, match="no face"):
        run_live(numbers(0, 0), look, Mirror(), compose, [Wall()])


def endless(number: int) -> Iterator[VideoFrame]:
    while True:
        yield frame(number)


def test_a_user_can_leave_before_the_first_face() -> None:
    wall = Wall(patience=3)
    stats = run_live(endless(0), look, Mirror(), compose, [wall])
    assert wall.waited == 3 and wall.shown == [] and stats.shown == 0


def test_ctrl_c_before_the_first_face_is_no_error() -> None:
    class Impatient(Wall):
        def wait(self, image: UInt8, moment: float) -> Reply:
            raise KeyboardInterrupt

    assert run_live(endless(0), look, Mirror(), compose, [Impatient()]).shown == 0


def test_the_first_face_is_neutral_and_whichever_the_user_calls_so_next() -> None:
    shown = threading.Semaphore(1)

    def camera() -> Iterator[VideoFrame]:
        for number in range(1, 7):
            assert shown.acquire(timeout=600)
            yield frame(0 if number == 4 else number)

    told: list[int] = []
    options = LiveOptions(
        report=lambda stats: shown.release(), neutral=lambda head: told.append(int(head.image[0, 0, 0]))
    )
    run_live(camera(), look, Mirror(), compose, [Wall(neutral=(3,)), Wall()], options)
    assert told == [1, 5]  # asked for at 3; the next frame shows no face


def test_a_screen_can_end_it_and_the_camera_is_released() -> None:
    released = threading.Event()

    def camera() -> Iterator[VideoFrame]:
        try:
            while True:
                yield frame(3)
        finally:
            released.set()

    frames, wall = camera(), Wall(most=2)
    stats = run_live(frames, look, Mirror(), compose, [wall])
    assert stats.shown == 2
    del frames
    assert released.wait(10)
