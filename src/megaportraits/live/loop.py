"""The live loop: capture, track, render and show, each step on the newest available frame.

Three threads pass frames through slots that hold one item (`live.latest`): one reads the camera, one tracks the face,
and the caller's runs the network and shows the result. Slow steps skip frames, so no queue builds up.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from megaportraits.config.options import convert_options
from megaportraits.errors import FaceError
from megaportraits.live.latest import Latest, feed
from megaportraits.live.screens import Reply, Screen
from megaportraits.media import VideoFrame
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HeadPose
from megaportraits.pipeline import Rendering
from megaportraits.pipeline.driver import DriverFrame, HeadView
from megaportraits.pipeline.protocols import Renderer

Look = Callable[[VideoFrame], DriverFrame]
"""Finds the head in the next frame; see `pipeline.driver.HeadFollower.look`."""
Compose = Callable[[Rendering, DriverFrame], UInt8]
"""Composites a rendering over its background: (H, W, 3) uint8."""
_WINDOW = 60
"""Number of frames over which the displayed speed is averaged."""


@dataclass(frozen=True)
class LiveOptions:
    """Duration and callbacks of the live loop.

    Attributes:
        seconds: stop after this time; None: run until the camera ends or the user quits.
        report: called after every frame.
        neutral: called with the first head found, and with the next head each time the user sets the neutral frame;
            always before that head is rendered.
    """

    seconds: float | None = None
    report: Callable[[LiveStats], None] | None = None
    neutral: Callable[[HeadView], None] | None = None

    def __post_init__(self) -> None:
        convert_options(self, keep=("report", "neutral"))


class LiveStats:
    """Speed statistics of a live session.

    Attributes:
        shown: number of images shown.
        dropped: number of frames replaced by newer ones before they were processed.
        faceless: number of images that repeat the last motion because no face was found.
    """

    def __init__(self) -> None:
        self.shown = self.dropped = self.faceless = 0
        self._latencies: deque[float] = deque(maxlen=_WINDOW)
        self._moments: deque[float] = deque(maxlen=_WINDOW)

    def add(self, caught: float, shown: float) -> None:
        """Count an image; `caught` is its frame's capture time and `shown` its display time, seconds."""
        self.shown += 1
        self._latencies.append(shown - caught)
        self._moments.append(shown)

    @property
    def fps(self) -> float:
        """Images per second over the last `_WINDOW` images; 0 before the second image."""
        span = self._moments[-1] - self._moments[0] if len(self._moments) > 1 else 0.0
        return (len(self._moments) - 1) / span if span > 0 else 0.0

    @property
    def latency(self) -> float:
        """Median time from capture to display over the last `_WINDOW` images, milliseconds."""
        return statistics.median(self._latencies) * 1e3 if self._latencies else 0.0

    def line(self) -> str:
        """The statistics as one line of text."""
        said = f"{self.fps:.1f} frames/s, latency {self.latency:.0f} ms, {self.dropped} dropped"
        return said + (f", {self.faceless} without a face" if self.faceless else "")


def run_live(
    camera: Iterable[VideoFrame],
    look: Look,
    engine: Renderer,
    compose: Compose,
    screens: Sequence[Screen],
    options: LiveOptions | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> LiveStats:
    """Animate the person with the camera's motion until the camera, the user or the time limit ends it.

    Ctrl-C ends the loop normally.

    Args:
        camera: frames whose times are capture times on `clock`.
        look: finds the head; called in its own thread.
        engine: renders the person.
        compose: composites the person over a background.
        screens: where images are shown; without any, the loop only measures.
        options: see `LiveOptions`.
        clock: returns the time in seconds.

    Raises:
        FaceError: the camera ended by itself and never showed a face.
        MegaPortraitsError: an error in the camera's or the tracker's thread.
    """
    options = options or LiveOptions()
    stats, caught, seen = LiveStats(), Latest[VideoFrame](), Latest[DriverFrame]()
    feed(camera, caught)
    tracker = feed(map(look, iter(caught.take, None)), seen)
    begin, last, reply, ask_neutral = clock(), None, Reply.MORE, True
    try:
        while reply is not Reply.LEAVE and (view := seen.take()) is not None:
            if ask_neutral and view.head is not None:
                ask_neutral = False
                if options.neutral is not None:
                    options.neutral(view.head)
            last = _drawn(engine, view, last, stats)
            stats.dropped = caught.dropped + seen.dropped
            if last is None:
                answers = [screen.wait(view.frame.image, view.frame.time) for screen in screens]
            else:
                picture = compose(last, view)
                answers = [screen.show(picture, view.frame.time, stats.line()) for screen in screens]
                stats.add(view.frame.time, clock())
                if options.report is not None:
                    options.report(stats)
            reply = max(answers, default=Reply.MORE)
            ask_neutral = ask_neutral or reply is Reply.NEUTRAL
            if options.seconds is not None and clock() - begin >= options.seconds:
                break
    except KeyboardInterrupt:
        reply = Reply.LEAVE  # the usual way to quit; the screens finish their files
    finally:
        caught.close()
        seen.close()
        tracker.join(timeout=2)
    if last is None and reply is not Reply.LEAVE and options.seconds is None:
        raise FaceError("no face was seen", fix="Sit upright before the camera, in good light.")
    return stats


def _drawn(engine: Renderer, view: DriverFrame, last: Rendering | None, stats: LiveStats) -> Rendering | None:
    """The rendering for a frame; the last one again if no face was found."""
    if view.head is None:
        stats.faceless += last is not None
        return last
    pose: HeadPose = view.head.pose.to_crop_pose(view.head.crop)
    return engine.draw(view.head.image, pose, view.head.face.blendshapes)
