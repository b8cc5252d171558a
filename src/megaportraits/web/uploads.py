"""Storage of visitors' files: limits on simultaneous uploads and on space, and deletion of the oldest files."""

from __future__ import annotations

import shutil
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from megaportraits.web.guard import Refused

_MULTIPART_BYTES = 20_000
"""Maximum overhead of a multipart form, bytes."""


@dataclass(frozen=True)
class UploadLimits:
    """Limits on visitors' uploads.

    Attributes:
        bytes: largest upload: one file, or several in one request.
        at_once: uploads that run at the same time.
        seconds: longest upload.
        idle_seconds: an upload is aborted after a pause of this length.
        kept_bytes: of uploads and results together. Beyond this the oldest ones are deleted; if that is not enough, new
            uploads are refused.
        kept: number of uploads and results, in the same way.
        safe_seconds: younger files are never deleted.
    """

    bytes: int = 500_000_000
    at_once: int = 8
    seconds: float = 900.0
    idle_seconds: float = 20.0
    kept_bytes: int = 10_000_000_000
    kept: int = 2000
    safe_seconds: float = 1800.0

    @property
    def request_bytes(self) -> int:
        """Longest body of a request that uploads."""
        return self.bytes + _MULTIPART_BYTES


class UploadFolder:
    """A folder of uploads and results, one sub-folder each. Thread-safe.

    Files that exist at the start belong to the page and are never deleted.

    Args:
        folder: the folder; Gradio writes uploads that are still running as plain files into it.
        limits: see `UploadLimits`.
        in_use: gives files that jobs still need.
    """

    def __init__(self, folder: Path, limits: UploadLimits, in_use: Callable[[], Collection[Path]]) -> None:
        self.folder, self.limits = folder, limits
        self._in_use = in_use
        self._own = {path.name for path in folder.iterdir()}
        self._lock = threading.Lock()
        self._running: list[int] = []

    @contextmanager
    def place(self, length: int) -> Iterator[None]:
        """Reserve space for an upload during the block.

        Raises:
            Refused: too many uploads at once, or the folder is full of files that are still needed.
        """
        with self._lock:
            if len(self._running) >= self.limits.at_once:
                raise Refused(503, f"Expected fewer than {self.limits.at_once} uploads at once. Try again in a minute.")
            self._make_room(length + sum(self._running))
            self._running.append(length)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(length)
                if not self._running:
                    self._sweep()

    def _make_room(self, wanted: int) -> None:
        """Delete the oldest uploads and results until `wanted` bytes fit."""
        held = sorted(
            (_StoredUpload.of(path) for path in self.folder.iterdir() if path.is_dir()), key=lambda held: held.changed
        )
        size, count = sum(one.bytes for one in held), len(held)
        safe = time.time() - self.limits.safe_seconds
        needed = {path.parent for path in self._in_use()}

        def is_full() -> bool:
            return size + wanted > self.limits.kept_bytes or count >= self.limits.kept

        for one in held:
            if not is_full():
                return
            if one.path.name not in self._own and one.changed < safe and one.path not in needed:
                shutil.rmtree(one.path, ignore_errors=True)
                size, count = size - one.bytes, count - 1
        if is_full():
            raise Refused(507, "There is no space for another upload now. Try again in half an hour.")

    def _sweep(self) -> None:
        """Delete files of aborted uploads; called while no upload is running."""
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in self._own:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _StoredUpload:
    """A folder of one upload or result: bytes, and when something in it changed, seconds since the epoch."""

    path: Path
    bytes: int
    changed: float

    @staticmethod
    def of(path: Path) -> _StoredUpload:
        size, changed = 0, 0.0
        for one in (path, *path.rglob("*")):
            with suppress(OSError):  # deleted meanwhile
                found = one.lstat()
                size += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
                changed = max(changed, found.st_mtime)
        return _StoredUpload(path, size, changed)
