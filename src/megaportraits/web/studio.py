"""Work behind the page: one avatar shared by all visitors, one job at a time, separate files for each visitor."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from megaportraits.errors import ConfigError, MediaError, MegaPortraitsError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.media import DEFAULT_LIMITS, Limits, is_video
from megaportraits.media.credentials import Credentials
from megaportraits.media.images import UInt8
from megaportraits.pipeline import AnimateOptions, AnimateReport, Avatar, animate_file
from megaportraits.pipeline.driver import FrameSource
from megaportraits.pipeline.files import OnProgress
from megaportraits.pipeline.portrait import look
from megaportraits.web.faces import NumberedFaces, number_faces

LONGEST_LINE = 8
"""Maximum number of waiting and running jobs; each occupies a thread of the server."""
_POLL_SECONDS = 0.25

Waiting = Callable[[int], None]
"""Called repeatedly with the number of earlier jobs, and once with 0 when the work begins."""


class Stopped(MegaPortraitsError):
    """A visitor stopped a job before its first frame."""


class _Ticket:
    """A visitor's job in the queue."""

    def __init__(self, visitor: str, files: tuple[Path, ...]) -> None:
        self.visitor, self.files = visitor, files
        self.stopped = threading.Event()


class Studio:
    """Detects faces, previews and animates; thread-safe.

    Jobs wait here and not in the web server's queue, because that queue cannot cancel a waiting job and keep the frames
    of a running one.

    Args:
        avatar: used by one job at a time.
        folder: folder of results, each in its own sub-folder; the caller deletes it.
        limits: on a visitor's file.
        credentials: sign results with these; None: they are not signed.
    """

    def __init__(
        self,
        avatar: Avatar,
        folder: Path,
        limits: Limits = DEFAULT_LIMITS,
        credentials: Credentials | None = None,
    ) -> None:
        self.avatar, self.credentials = avatar, credentials
        self._folder, self._limits = folder, limits
        self._line: list[_Ticket] = []
        self._changed = threading.Condition()
        self._finding = threading.Lock()

    @cached_property
    def _finder(self) -> FaceAnalyzer:
        """Separate from the avatar's analyzer, so that faces of a new photograph can be found while a job runs."""
        return FaceAnalyzer()

    def faces(self, photo: Path) -> NumberedFaces:
        """The faces of a photograph.

        Raises:
            MediaError: it cannot be read, or exceeds a limit.
            FaceError: it shows no human face.
        """
        with self._finding:
            seen = look(photo, self._finder, self._limits)
        return number_faces(seen.photo, seen.faces)

    def preview(self, visitor: str, photo: Path, driver: Path, options: AnimateOptions, waiting: Waiting) -> UInt8:
        """One frame of `animate`, (H, W, 3), or (H, W, 4) if transparent.

        Raises:
            MediaError, FaceError: as `animate`.
            Stopped: see `stop`.
        """
        with self._turn(visitor, waiting, photo, driver):
            frames = FrameSource(driver, limits=self._limits)
            portrait = self.avatar.encode(photo, face=options.face, limits=self._limits)
            return self.avatar.preview(portrait, frames, options).image

    def animate(
        self,
        visitor: str,
        photo: Path,
        driver: Path,
        options: AnimateOptions,
        waiting: Waiting,
        progress: OnProgress,
    ) -> AnimateReport:
        """Animate a photograph with a video, after all earlier jobs.

        Args:
            visitor: identifier of the visitor.
            photo: shows the person.
            driver: shows the motion.
            options: see `AnimateOptions`.
            waiting: see `Waiting`.
            progress: called with the frames done and the frames expected.

        Returns:
            The result; `interrupted` after `stop`, with the frames made so far.

        Raises:
            MediaError: a file cannot be read or written, or the driver is a picture.
            FaceError: no usable face in the photograph, or none in the driver.
            Stopped: stopped before the first frame.
            ConfigError: results are signed, and a transparent one was asked for.
            MegaPortraitsError: the queue is full.
        """
        if self.credentials is not None and options.transparent:
            raise ConfigError(
                "Results of this page are signed, and transparent videos (.webm) cannot be signed.",
                fix="Choose another background.",
            )
        with self._turn(visitor, waiting, photo, driver) as ticket:
            # Only now: opening a visitor's file can take long, and must delay its own job only.
            if not is_video(driver, self._limits):
                raise MediaError(f"{driver}: expected a video, got a picture", fix="Choose a video that shows a face.")

            def advance(done: int, total: int | None) -> None:
                progress(done, total)
                if ticket.stopped.is_set():
                    raise KeyboardInterrupt

            # A folder with a random name, without text from a visitor.
            folder = tempfile.mkdtemp(dir=self._folder)
            return animate_file(
                self.avatar,
                photo,
                driver,
                folder,
                options,
                progress=advance,
                limits=self._limits,
                credentials=self.credentials,
            )

    def stop(self, visitor: str) -> None:
        """Stop the jobs of a visitor: a waiting one at once, a running animation with the frames made so far."""
        with self._changed:
            for ticket in self._line:
                if ticket.visitor == visitor:
                    ticket.stopped.set()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop all jobs and wait for their end."""
        with self._changed:
            for ticket in self._line:
                ticket.stopped.set()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._line)

    def files_in_use(self) -> set[Path]:
        """Photographs and videos of waiting and running jobs."""
        with self._changed:
            return {path for ticket in self._line for path in ticket.files}

    @contextmanager
    def _turn(self, visitor: str, waiting: Waiting, *files: Path) -> Iterator[_Ticket]:
        """Wait for exclusive use of the avatar during the block."""
        ticket = _Ticket(visitor, files)
        with self._changed:
            if len(self._line) >= LONGEST_LINE:
                raise MegaPortraitsError(
                    f"Expected fewer than {LONGEST_LINE} jobs before this one, got {len(self._line)}.",
                    fix="Try again in a few minutes.",
                )
            self._line.append(ticket)
        try:
            while ahead := self._ahead(ticket):
                waiting(ahead)
                with self._changed:
                    self._changed.wait(_POLL_SECONDS)
            if ticket.stopped.is_set():
                raise Stopped("Stopped before the first frame.")
            waiting(0)
            yield ticket
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _ahead(self, ticket: _Ticket) -> int:
        """The number of jobs before this one; 0 if it was stopped."""
        with self._changed:
            return 0 if ticket.stopped.is_set() else self._line.index(ticket)
