"""Animate files: the implementation of `megaportraits animate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from megaportraits.media import DEFAULT_LIMITS, Limits, VideoReader, VideoWriter, is_video, write_image
from megaportraits.media.credentials import Credentials
from megaportraits.media.files import write_all
from megaportraits.media.images import UInt8
from megaportraits.media.staging import Sign
from megaportraits.pipeline.avatar import Avatar
from megaportraits.pipeline.compose import side_by_side
from megaportraits.pipeline.driver import FrameSource
from megaportraits.pipeline.frames import AnimatedFrame
from megaportraits.pipeline.group import animate_group, find_group
from megaportraits.pipeline.marks import Marks
from megaportraits.pipeline.options import ALL_FACES, AnimateOptions
from megaportraits.pipeline.plan import driver_files, plan_output, swap_question
from megaportraits.pipeline.portrait import Portrait, source_view

OnProgress = Callable[[int, int | None], None]
"""Called with the frames done and the frames expected (None: unknown). It may raise KeyboardInterrupt to stop early."""


@dataclass(frozen=True)
class AnimateReport:
    """Result of `animate_file`.

    Attributes:
        output: the file written.
        frames: number of frames in it.
        held: number of frames that repeat the last motion because no face was found.
        faces: number of faces in the source.
        face: the requested face, "all", or None if none was requested.
        interrupted: whether Ctrl-C ended the work early; the file is playable up to there.
        damage: None, or one sentence about damaged parts of the driver.
        remarks: further remarks for the user, one sentence each.
    """

    output: Path
    frames: int
    held: int
    faces: int
    face: int | Literal["all"] | None
    interrupted: bool
    damage: str | None
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report as text, one remark per line."""
        ended = "Stopped early: wrote" if self.interrupted else "Wrote"
        said = [f"{ended} {self.frames} frame{'s' * (self.frames != 1)} to {self.output}"]
        if self.faces > 1 and self.face is None:
            said.append(f"The source shows {self.faces} faces; --face N chooses one, from left to right.")
        if self.held:
            said.append(f"No face was found in {self.held} driver frames; there the last motion was held.")
        if self.damage:
            said.append(f"The driver is damaged: {self.damage}.")
        return [*said, *self.remarks]


def animate_file(
    avatar: Avatar,
    source: str | Path,
    driver: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    options: AnimateOptions | None = None,
    *,
    side_by_side: str | Path | None = None,
    overwrite: bool = False,
    progress: OnProgress | None = None,
    limits: Limits = DEFAULT_LIMITS,
    mark: bool = True,
    credentials: Credentials | None = None,
) -> AnimateReport:
    """Animate a source file with a driver file and write the result. Memory does not grow with the driver's length.

    The driver's frame times and sound are kept. Ctrl-C stops early and leaves a playable file.

    Args:
        avatar: the model.
        source: image or video that shows the person.
        driver: video or image that shows the motion; with `face="all"` also several, one for each face from left
            to right.
        output: see `plan_output`.
        options: see `AnimateOptions`.
        side_by_side: also write source crop, driver crop and result as three equal squares in a row; with
            `face="all"` one row for each face.
        overwrite: whether existing files may be replaced.
        progress: see `OnProgress`.
        limits: limits on the size of the source and the driver.
        mark: whether the outputs' metadata state that they are synthetic and which model made them.
        credentials: sign the outputs with these content credentials; None: they are not signed.

    Raises:
        MediaError: a file cannot be read or written, or exceeds a limit.
        FaceError: no usable face in the source, or none in the driver.
        SigningError: a finished output could not be signed; it is kept without signature.
    """
    options = options or AnimateOptions()
    drivers = driver_files(driver)
    beside = None if side_by_side is None else Path(side_by_side)
    output = plan_output(
        Path(source),
        drivers,
        output,
        options,
        side_by_side=beside,
        overwrite=overwrite,
        limits=limits,
        signed=credentials is not None,
    )
    marks = Marks.of(avatar, source, credentials, flat=options.flat, mark=mark)
    if options.face == ALL_FACES:
        group = find_group(avatar, source, drivers, limits)
        portraits, sources = group.portraits, group.drivers
        frames, animated = group.lead, animate_group(avatar, group, options)
    else:
        portraits = (avatar.encode(source, face=options.face, limits=limits),)
        frames = FrameSource(drivers[0], limits=limits)
        sources, animated = (frames,), avatar.animate(portraits[0], frames, options)
    job = _Job(portraits, frames, options, options.head_size(avatar.output_size), progress, marks)
    if frames.still:
        frame = next(animated)
        next(animated, None)  # exhausting the stream raises FaceError if there was no face
        job.count(frame)
        pictures = [(output, frame.image, marks.sign)]
        if beside is not None:
            pictures.append((beside, job.row(frame), marks.sign_beside))
        write_all(
            partial(write_image, path, image, overwrite=overwrite, late=True, note=marks.note, sign=sign)
            for path, image, sign in pictures
        )
    else:
        job.write_videos(animated, output, beside, overwrite=overwrite)
    damage = frames.reader.damage if frames.reader else None
    head, filmed = portraits[0].head, is_video(source, limits)
    remarks = _turns("photograph", head.turns)
    remarks += _tones("source", VideoReader(source, limits=limits) if filmed else None)
    for one in sources:
        name = "driver" if len(sources) == 1 else one.name.removeprefix("the ")
        remarks += _turns(name, one.turns) + _tones(name, one.reader)
    question = swap_question(source, drivers[0], filmed=filmed, moving=not frames.still)
    remarks += [question] if question else []
    return AnimateReport(
        output, job.frames, job.held, head.faces, options.face, job.interrupted, damage, tuple(remarks)
    )


def _tones(name: str, reader: VideoReader | None) -> list[str]:
    """The remark about a video that was converted from HDR."""
    if reader is None or reader.info.hdr is None:
        return []
    return [f"The {name} is HDR video ({reader.info.hdr}): it was tone-mapped to BT.709."]


def _turns(name: str, turns: int) -> list[str]:
    """The remark about an image or video that was turned upright."""
    if not turns:
        return []
    lay = "was upside down" if turns == 2 else "lay on its side"
    how = {1: "90 degrees counter-clockwise", 2: "180 degrees", 3: "90 degrees clockwise"}[turns]
    return [f"The {name} {lay}: it was turned by {how}."]


class _Job:
    """Counters and writers of one `animate_file`."""

    def __init__(
        self,
        portraits: Sequence[Portrait],
        source: FrameSource,
        options: AnimateOptions,
        size: int,
        progress: OnProgress | None,
        marks: Marks,
    ) -> None:
        self.frames = 0
        self.held = 0
        self.interrupted = False
        self._source = source
        self._options = options
        self._progress = progress
        self._marks = marks
        self._total = source.count(options.max_seconds)
        squares = [source_view(portrait.head, portrait.head.crop, size) for portrait in portraits]
        self._source_square = np.concatenate(squares)

    def count(self, frame: AnimatedFrame) -> None:
        self.frames += 1
        self.held += frame.held
        if self._progress is not None:
            self._progress(self.frames, self._total)

    def row(self, frame: AnimatedFrame) -> UInt8:
        """One side-by-side frame: source crop, driver crop, result."""
        driver = np.zeros_like(self._source_square) if frame.driver is None else frame.driver
        return side_by_side(self._source_square, driver, frame.square)

    def write_videos(
        self, animated: Iterator[AnimatedFrame], output: Path, beside: Path | None, *, overwrite: bool
    ) -> None:
        try:
            with ExitStack() as stack:
                result = stack.enter_context(
                    self._writer(output, overwrite, self._marks.sign, alpha=self._options.transparent)
                )
                row = None
                if beside is not None:
                    row = stack.enter_context(self._writer(beside, overwrite, self._marks.sign_beside))
                for frame in animated:
                    result.write(frame.image, frame.frame.pts)
                    if row is not None:
                        row.write(self.row(frame), frame.frame.pts)
                    self.count(frame)
        except KeyboardInterrupt:
            if not self.frames:
                raise
            self.interrupted = True

    def _writer(self, path: Path, overwrite: bool, sign: Sign | None, *, alpha: bool = False) -> VideoWriter:
        reader = self._source.reader
        return VideoWriter(
            path,
            fps=self._source.fps,
            time_base=self._source.time_base,
            audio_from=reader.path if reader is not None and reader.info.has_audio else None,
            alpha=alpha,
            overwrite=overwrite,
            note=self._marks.note,
            sign=sign,
        )
