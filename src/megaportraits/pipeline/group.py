"""Animate every face of a group photograph, all with one driver or each with its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megaportraits.errors import FaceError, MediaError
from megaportraits.media import DEFAULT_LIMITS, Limits, VideoFrame
from megaportraits.media.images import UInt8
from megaportraits.models.motion import Motion
from megaportraits.pipeline.compose import Rendering
from megaportraits.pipeline.compositor import Compositor
from megaportraits.pipeline.driver import Driver, DriverFrame, FrameSource, HeadFollower
from megaportraits.pipeline.frames import BATCH, AnimatedFrame
from megaportraits.pipeline.motion import edit_motion
from megaportraits.pipeline.options import AnimateOptions
from megaportraits.pipeline.portrait import Portrait, Source, find_source_heads
from megaportraits.pipeline.prefetch import prefetch
from megaportraits.pipeline.sequence import HeadAnimator, prepare_driver

_SAME_TIME = 1e-4
"""Tolerance, seconds, when frame times of two drivers are compared: times are rounded to ticks."""


@dataclass(frozen=True)
class Group:
    """The people of a photograph and their drivers.

    Attributes:
        portraits: one for each face, from left to right.
        drivers: the distinct drivers.
        driver_of: for each portrait, the index of its driver in `drivers`.
    """

    portraits: tuple[Portrait, ...]
    drivers: tuple[FrameSource, ...]
    driver_of: tuple[int, ...]

    @property
    def lead(self) -> FrameSource:
        """The driver that sets the result's frame times, length and sound: the first video, else the first driver."""
        return next((driver for driver in self.drivers if not driver.still), self.drivers[0])


def find_group(
    avatar: HeadAnimator, source: Source, drivers: Sequence[Driver | FrameSource], limits: Limits = DEFAULT_LIMITS
) -> Group:
    """Encode every face of a source.

    Args:
        avatar: the model.
        source: see `Avatar.encode`.
        drivers: one for all faces, or one for each, from left to right. A file that is given twice is read once.
        limits: limits on the size of files that are read.

    Raises:
        MediaError: a file cannot be read, or exceeds a limit.
        FaceError: the source shows no human face, or the number of drivers is neither 1 nor the number of faces.
    """
    heads = find_source_heads(source, avatar.analyzer, limits)
    if len(drivers) not in (1, len(heads)):
        raise FaceError(
            f"Expected one driver, or {len(heads)} for the {len(heads)} faces of the source, got {len(drivers)}.",
            fix="Name one driver for all faces, or one for each from left to right.",
        )
    different: list[Driver | FrameSource] = []
    numbers = []
    for driver in drivers:
        same = (n for n, other in enumerate(different) if other is driver or _same_file(other, driver))
        numbers.append(next(same, len(different)))
        if numbers[-1] == len(different):
            different.append(driver)
    return Group(
        tuple(avatar.encode_head(head) for head in heads),
        tuple(
            driver if isinstance(driver, FrameSource) else FrameSource(driver, limits=limits) for driver in different
        ),
        tuple(numbers if len(numbers) == len(heads) else numbers * len(heads)),
    )


def _same_file(one: Driver | FrameSource, other: Driver | FrameSource) -> bool:
    return isinstance(one, (str, Path)) and isinstance(other, (str, Path)) and Path(one) == Path(other)


def animate_group(avatar: HeadAnimator, group: Group, options: AnimateOptions) -> Iterator[AnimatedFrame]:
    """Animate all people of a photograph, frame by frame, in constant memory.

    The result has the frame times of `Group.lead`. Other drivers are sampled at the same time since their start; after
    a driver's end its last motion is repeated. Heads are pasted in order of size, the largest last.

    Returns:
        Frames as in `Avatar.animate`. `square` and `driver` hold the squares of all faces, in order from left to right,
        stacked vertically. `held` is true if any driver's face was not found.

    Raises:
        FaceError: after the last frame, if a driver never showed a face.
    """
    tracks = [_DriverTrack(avatar, driver, options) for driver in group.drivers]
    lead = group.drivers.index(group.lead)
    people = [
        _Person(avatar, portrait, tracks[number], options)
        for portrait, number in zip(group.portraits, group.driver_of, strict=True)
    ]
    return _animate(avatar, people, tracks, lead, options)


def _animate(
    avatar: HeadAnimator, people: list[_Person], tracks: list[_DriverTrack], lead: int, options: AnimateOptions
) -> Iterator[AnimatedFrame]:
    back_to_front = sorted(range(len(people)), key=lambda k: people[k].portrait.head.crop.side)
    steps = prefetch(_in_step(tracks, lead, options.max_seconds), depth=BATCH)
    # Three threads: one tracks the drivers, one runs the networks, and the caller's composites and writes.
    for rendered, views in prefetch(_drawn(avatar, people, tracks, steps, options), depth=BATCH):
        picture = people[0].compositor.photo
        drawn = np.zeros(picture.shape[:2], np.float32)
        for k in back_to_front:
            picture = people[k].compositor.paste(picture, rendered[k], drawn)
        squares, drivers = zip(
            *(
                person.compositor.squares(rendering, views[tracks.index(person.track)])
                for person, rendering in zip(people, rendered, strict=True)
            ),
            strict=True,
        )
        held = any(view.head is None for view in views)
        yield AnimatedFrame(picture, np.concatenate(squares), _column(drivers), views[lead].frame, held)


def _drawn(
    avatar: HeadAnimator,
    people: list[_Person],
    tracks: list[_DriverTrack],
    steps: Iterator[list[DriverFrame]],
    options: AnimateOptions,
) -> Iterator[tuple[tuple[Rendering, ...], list[DriverFrame]]]:
    """The renderings of all people for every output frame."""
    while batch := list(itertools.islice(steps, BATCH)):
        for number, track in enumerate(tracks):
            track.measure(avatar, [views[number] for views in batch])
        rendered = [person.renderings(avatar, options) for person in people]
        yield from zip(zip(*rendered, strict=True), batch, strict=True)
    for track in tracks:
        if not track.seen:
            raise track.follower.missing(track.source.name)


class _DriverTrack:
    """A driver, tracked in step with the others."""

    def __init__(self, avatar: HeadAnimator, source: FrameSource, options: AnimateOptions) -> None:
        self.source = source
        self.follower: HeadFollower
        self.follower, self.neutral = prepare_driver(avatar, source, options)
        self.seen = False
        self.motions: list[Motion | None] = []
        self._view: DriverFrame | None = None
        self._motion: Motion | None = None

    def measure(self, avatar: HeadAnimator, views: Sequence[DriverFrame]) -> None:
        """Fill `motions` for some frames: without a face the last motion is repeated; None before the first face."""
        before = itertools.chain([self._view], views)
        new = [view.head for view, last in zip(views, before, strict=False) if view is not last]
        driven = avatar.view_motions([head for head in new if head is not None])
        self.motions = []
        for view in views:
            if view is not self._view and view.head is not None:
                self._motion, self.seen = next(driven), True
            self._view = view
            self.motions.append(self._motion)


class _Person:
    """One face of the photograph."""

    def __init__(self, avatar: HeadAnimator, portrait: Portrait, track: _DriverTrack, options: AnimateOptions) -> None:
        self.portrait, self.track = portrait, track
        size = options.head_size(avatar.output_size)
        self.compositor = Compositor(portrait, options, avatar.matting, portrait.rest, size=size, fill=avatar.fill)

    def renderings(self, avatar: HeadAnimator, options: AnimateOptions) -> list[Rendering]:
        """Render the person with the motions of its driver's last `measure`."""
        own, neutral = self.portrait.motion, self.track.neutral
        motions = [
            edit_motion(own, own, options, neutral=own)
            if motion is None
            else edit_motion(own, motion, options, neutral=neutral)
            for motion in self.track.motions
        ]
        return avatar.renders(self.portrait, motions)


def _in_step(tracks: Sequence[_DriverTrack], lead: int, max_seconds: float | None) -> Iterator[list[DriverFrame]]:
    """The frames of all drivers at the frame times of the leading driver."""
    others = {n: _HeldMotion(track, max_seconds) for n, track in enumerate(tracks) if n != lead}
    start: float | None = None
    for frame in tracks[lead].source.frames(max_seconds):
        start = frame.time if start is None else start
        elapsed = frame.time - start
        yield [others[n].at(elapsed) if n in others else track.follower.look(frame) for n, track in enumerate(tracks)]


class _HeldMotion:
    """A driver that is sampled by time; after its end the last frame is repeated."""

    def __init__(self, track: _DriverTrack, max_seconds: float | None) -> None:
        self._track = track
        self._frames = track.source.frames(max_seconds)
        first = next(self._frames, None)
        if first is None:
            raise MediaError(f"{track.source.name}: no frame could be read", fix="Take another driver.")
        self._start = first.time
        self._next: VideoFrame | None = first
        self._view: DriverFrame | None = None

    def at(self, elapsed: float) -> DriverFrame:
        """The last frame that begins at most `elapsed` seconds after the first; the same object until the next one."""
        newest: VideoFrame | None = None
        while self._next is not None and self._next.time - self._start <= elapsed + _SAME_TIME:
            newest, self._next = self._next, next(self._frames, None)
        if newest is not None or self._view is None:
            assert newest is not None  # the first frame begins at 0
            self._view = self._track.follower.look(newest)
        return self._view


def _column(squares: Sequence[UInt8 | None]) -> UInt8 | None:
    """Squares stacked vertically. A missing square is black; the result is None if all are missing."""
    shown = next((square for square in squares if square is not None), None)
    if shown is None:
        return None
    return np.concatenate([np.zeros_like(shown) if square is None else square for square in squares])
