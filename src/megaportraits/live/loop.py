"""The live loop: catch, look, draw, show, each on the newest there is.

Three threads hand frames over in slots that hold one item (`live.latest`): the camera's, the face tracker's, and the
caller's, which runs the network and shows. Whoever is slow drops frames; nothing ever queues up.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from megaportraits.config.options import convert_options
from megaportraits.errors import FaceError
from megaportraits.live.engines import Renderer
from megaportraits.live.latest import Latest, feed
from megaportraits.live.screens import Reply, Screen
from megaportraits.media import VideoFrame
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HeadPose
from megaportraits.pipeline import Rendering
from megaportraits.pipeline.driver import DriverFrame, HeadView

Look = Callable[[VideoFrame], DriverFrame]
"""Finds the head in the next frame, as `pipeline.driver.HeadFollower.look`."""
Compose = Callable[[Rendering, DriverFrame], UInt8]
"""Puts a rendering onto its background: (H, W, 3) uint8."""
_WINDOW = 60
"""So many frames the shown speed is taken over."""


@dataclass(frozen=True)
class LiveOptions:
    """When to stop, and what to tell.

    Attributes:
        seconds: stop after so long; None goes on until the camera or the user ends it.
        report: called after every frame.
        neutral: told the first head that is seen, and the next one whenever the user calls a face neutral, before
            they are drawn.
    """

    seconds: float | None = None
    report: Callable[[LiveStats], None] | None = None
    neutral: Callable[[HeadView], None] | None = None

    def __post_init__(self) -> None:
        convert_options(self, keep=("report", "neutral"))


class LiveStats:
    """How fast it goes.

    Attributes:
        shown: pictures shown.
        dropped: frames that were overtaken by newer ones.
        faceless: pictures that repeat the last motion because no face was found.
    """

    def __init__(self) -> None:
        self.shown = self.dropped = self.faceless = 0
        self._latencies: deque[float] = deque(maxlen=_WINDOW)
        self._moments: deque[float] = deque(maxlen=_WINDOW)

    def add(self, caught: float, shown: float) -> None:
        """Count a picture by when its frame was caught and when it was shown, seconds."""
        self.shown += 1
        self._latencies.append(shown - caught)
        self._moments.append(shown)

    @property
    def fps(self) -> float:
        """Pictures a second over the last ones; 0 before the second."""
        span = self._moments[-1] - self._moments[0] if len(self._moments) > 1 else 0.0
        return (len(self._moments) - 1) / span if span > 0 else 0.0

    @property
    def latency(self) -> float:
        """Milliseconds from catching a frame to showing its picture, median of the last ones."""
        return statistics.median(self._latencies) * 1e3 if self._latencies else 0.0

    def line(self) -> str:
        """All of it in words."""
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
    """Show the person moving like the camera's, until camera, user or time ends it. Ctrl-C ends it well.

    Args:
        camera: frames whose times are when they were caught, by `clock`.
        look: runs in a thread of its own.
        engine: draws the person.
        compose: puts the person onto a background.
        screens: where pictures go; none measures only.
        options: see `LiveOptions`.
        clock: seconds.

    Raises:
        FaceError: the camera ended by itself without ever showing a face.
        MegaPortraitsError: what the camera or the tracker raised.
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
        reply = Reply.LEAVE  # the usual way to leave; files are finished by their screens
    finally:
        caught.close()
        seen.close()
        tracker.join(timeout=2)
    if last is None and reply is not Reply.LEAVE and options.seconds is None:
        raise FaceError("no face was seen", fix="Sit upright before the camera, in good light.")
    return stats


def _drawn(engine: Renderer, view: DriverFrame, last: Rendering | None, stats: LiveStats) -> Rendering | None:
    """The person of a frame; where no face was found, the last one again."""
    if view.head is None:
        stats.faceless += last is not None
        return last
    pose: HeadPose = view.head.pose.to_crop_pose(view.head.crop)
    return engine.draw(view.head.image, pose, view.head.face.blendshapes)
