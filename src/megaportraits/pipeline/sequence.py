"""Animate one portrait with one driver, frame by frame: the implementation of `Avatar.animate` and `Avatar.preview`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.inpainting import Fill
from megaportraits.faces.matting import Matting
from megaportraits.models.motion import Motion
from megaportraits.ops.geometry import Crop
from megaportraits.pipeline.compose import Rendering
from megaportraits.pipeline.compositor import Compositor
from megaportraits.pipeline.driver import DriverFrame, FrameSource, HeadFollower, HeadView, find_neutral
from megaportraits.pipeline.frames import BATCH, AnimatedFrame
from megaportraits.pipeline.motion import edit_motion
from megaportraits.pipeline.options import AnimateOptions, Background, MotionMode
from megaportraits.pipeline.portrait import Portrait, SourceHead, cut_at_border
from megaportraits.pipeline.prefetch import prefetch

_PREVIEWED = (0.5, 0.25, 0.75, 0.0)
"""Positions in the driver, as fractions of its length, at which a preview looks for a face, in this order."""


class HeadAnimator(Protocol):
    """The part of `Avatar` that renders heads; `pipeline.group` uses it too."""

    size: int
    """Side of the head crops that the networks see, pixels."""

    @property
    def analyzer(self) -> FaceAnalyzer: ...

    @property
    def matting(self) -> Matting: ...

    @property
    def fill(self) -> Fill: ...

    @property
    def output_size(self) -> int: ...

    def encode_head(self, head: SourceHead) -> Portrait: ...

    def view_motions(self, views: Sequence[HeadView]) -> Iterator[Motion]: ...

    def renders(self, portrait: Portrait | Sequence[Portrait], motions: Sequence[Motion]) -> list[Rendering]: ...


def prepare_driver(
    avatar: HeadAnimator, frames: FrameSource, options: AnimateOptions
) -> tuple[HeadFollower, Motion | None]:
    """Turn the driver upright; return its head follower and, where needed, the motion of its neutral frame."""
    frames.turn_upright(avatar.analyzer)
    neutral: Motion | None = None
    rest: Crop | None = None
    if options.needs_neutral:
        view = find_neutral(frames, avatar.analyzer, avatar.size, face=options.driver_face)
        neutral = next(avatar.view_motions([view]))
        rest = view.crop if options.motion is MotionMode.RELATIVE else None
    return HeadFollower(avatar.analyzer, avatar.size, face=options.driver_face, rest=rest), neutral


def animate_portrait(
    avatar: HeadAnimator, portrait: Portrait, frames: FrameSource, options: AnimateOptions
) -> Iterator[AnimatedFrame]:
    """As `Avatar.animate`. The driver's neutral frame is found before this function returns."""
    follower, neutral = prepare_driver(avatar, frames, options)
    return _animate(avatar, portrait, frames, options, follower, neutral)


def preview_portrait(
    avatar: HeadAnimator, portrait: Portrait, frames: FrameSource, options: AnimateOptions
) -> AnimatedFrame:
    """As `Avatar.preview`."""
    follower, neutral = prepare_driver(avatar, frames, options)
    for share in _PREVIEWED:
        picture = FrameSource(frames.picture(share, options.max_seconds))
        frame = next(_animate(avatar, portrait, picture, options, follower, neutral))
        if not frame.held:
            return frame
    raise follower.missing(frames.name, f"at the {len(_PREVIEWED)} places that a preview looks at")


def _animate(
    avatar: HeadAnimator,
    portrait: Portrait,
    source: FrameSource,
    options: AnimateOptions,
    follower: HeadFollower,
    neutral: Motion | None,
) -> Iterator[AnimatedFrame]:
    size = options.head_size(avatar.output_size)
    if options.background in (Background.COLOR, Background.TRANSPARENT):
        portrait = cut_at_border(portrait)
    compositor = Compositor(portrait, options, avatar.matting, portrait.rest, size=size, fill=avatar.fill)
    # Three threads: one tracks the driver, one runs the networks, and the caller's composites and writes.
    views = prefetch(map(follower.look, source.frames(options.max_seconds)), depth=BATCH)
    seen = False
    for rendering, view in prefetch(_rendered(avatar, portrait, views, options, neutral), depth=BATCH):
        seen = seen or view.head is not None
        composed = compositor.compose(rendering, view)
        yield AnimatedFrame(*composed, frame=view.frame, held=view.head is None)
    if not seen:
        raise follower.missing(source.name)


def _rendered(
    avatar: HeadAnimator,
    portrait: Portrait,
    views: Iterator[DriverFrame],
    options: AnimateOptions,
    neutral: Motion | None,
) -> Iterator[tuple[Rendering, DriverFrame]]:
    """Render the person for every driver frame. Frames without a face repeat the last motion."""
    # Before the driver's first face, render the source's own motion with the same edits.
    motion = edit_motion(portrait.motion, portrait.motion, options, neutral=portrait.motion)
    while batch := list(itertools.islice(views, BATCH)):
        driven = avatar.view_motions([view.head for view in batch if view.head is not None])
        motions: list[Motion] = []
        for view in batch:
            if view.head is not None:
                motion = edit_motion(portrait.motion, next(driven), options, neutral=neutral)
            motions.append(motion)
        yield from zip(avatar.renders(portrait, motions), batch, strict=True)
