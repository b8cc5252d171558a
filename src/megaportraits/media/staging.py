"""Atomic outputs: files that appear complete under their name, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count
from pathlib import Path

from megaportraits.errors import MediaError, MegaPortraitsError, OutputTakenError, SigningError
from megaportraits.media.files import check_output
from megaportraits.media.locks import RENAMES_OPEN_FILES, remove_unless_in_use, try_lock

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_STAGE = re.compile(r"\..*\.([0-9a-f]{8})\.[a-z0-9_]{8}\.part(\.[^.]*)?")
_DAY = 86_400.0
_STEM, _LONG = 40, 245  # characters of a stem that fit into every name; bytes of a name that leave room for a number
_NO_LINKS = (errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_swept: set[Path] = set()

Sign = Callable[[Path, Path], None]
"""Writes a signed copy (the second path) of a finished file (the first). Raises SigningError; see `credentials`."""


class StagedFile:
    """A temporary file in the folder of an output; `commit` renames it to the output.

    Missing parent folders are created. The file is locked while its process runs. The file of a killed process is not
    locked, and the next process that writes to the folder removes it.

    Args:
        path: the output.
        overwrite: whether an existing file may be replaced, now and at the end.
        late: `check_output` was called before the work, so a file that exists now has appeared since.

    Attributes:
        part: the temporary file; a writer may truncate it, but must not replace it by another.

    Raises:
        MediaError: see `check_output`, unless `late`; the folder cannot be written.
    """

    def __init__(self, path: Path, *, overwrite: bool, late: bool = False) -> None:
        if not late:
            check_output(path, overwrite=overwrite)
        self._path, self._overwrite = path, overwrite
        self._lock: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            self._lock, self.part = _locked_part(path)
        except OSError as error:
            raise MediaError(
                f"{path.parent}: the folder cannot be written ({error.strerror or error})",
                fix="Choose another folder.",
            ) from error

    def commit(self, *, private: bool = False, sign: Sign | None = None) -> None:
        """Give the finished file its final name, with the permissions of an ordinary new file.

        Args:
            private: only the user may read and write the file.
            sign: signs the file before it gets its name; None: it is not signed.

        Raises:
            OutputTakenError: another file has appeared at the path and may not be replaced; the result is kept under
                the first free name of path-2, path-3, and so on.
            SigningError: signing failed; the result is kept without signature, under another name.
        """
        failure = None if sign is None else self._sign(sign)
        if not private:  # temporary files are private
            mask = os.umask(0)
            os.umask(mask)
            self.part.chmod(0o666 & ~mask)
        if not RENAMES_OPEN_FILES:
            self._release()
        if failure is not None:
            kept = _publish_near(self.part, self._path, chain(["-unsigned"], _numbers("-unsigned-")))
            raise SigningError(failure.reason, kept) from failure
        publish(self.part, self._path, overwrite=self._overwrite)

    def _sign(self, sign: Sign) -> SigningError | None:
        """Replace the temporary file by its signed copy. Returns the error if signing failed; the file then stays."""
        lock, part = _locked_part(self._path)
        try:
            sign(self.part, part)
        except BaseException as error:
            os.close(lock)
            part.unlink(missing_ok=True)
            if isinstance(error, SigningError):
                return error
            raise
        self.close()
        self._lock, self.part = lock, part
        return None

    def close(self) -> None:
        """Release the lock and remove the temporary file unless it was committed. Can be called again."""
        self._release()
        self.part.unlink(missing_ok=True)

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextlib.contextmanager
def staged_output(
    path: Path,
    *,
    overwrite: bool,
    late: bool = False,
    private: bool = False,
    sign: Sign | None = None,
) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block ends without an exception.

    If the block raises, the temporary file is removed and an existing file at `path` is unchanged.

    Args:
        path: the output.
        overwrite: see `StagedFile`.
        late: see `StagedFile`.
        private: see `StagedFile.commit`.
        sign: see `StagedFile.commit`.

    Raises:
        MediaError: see `StagedFile`; the disk is full.
        OutputTakenError, SigningError: see `StagedFile.commit`.
    """
    stage = StagedFile(path, overwrite=overwrite, late=late)
    try:
        with full_disk_errors(path):
            yield stage.part
            stage.commit(private=private, sign=sign)
    finally:
        stage.close()


def link_or_copy(source: Path, target: Path) -> None:
    """A symbolic link to a file, or a copy where the system refuses links (Windows, for ordinary users)."""
    try:
        target.symlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder; once per process and folder.

    A network file system may not share locks between machines: files of other machines are removed after a day only.
    """
    folder = folder.absolute()
    if folder in _swept:
        return
    _swept.add(folder)
    for entry in os.scandir(folder):
        found = _STAGE.fullmatch(entry.name)
        if found and entry.is_file(follow_symlinks=False):
            with contextlib.suppress(OSError):  # locked by a running process, or no permission to remove it
                if found[1] != _HOST and time.time() - entry.stat().st_mtime < _DAY:
                    continue
                remove_unless_in_use(Path(entry.path))


def _locked_part(path: Path) -> tuple[int, Path]:
    """A new temporary file for an output: the descriptor that locks it, and its path."""
    while True:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem[:_STEM]}.{_HOST}.", suffix=f".part{path.suffix}", dir=path.parent
        )
        with contextlib.suppress(OSError):  # a file system without locks, where no process removes leftovers either
            try_lock(handle)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # another process removed it before it was locked


def publish(part: Path, path: Path, *, overwrite: bool) -> None:
    """Rename a finished file, on the same file system, to its final name.

    Raises:
        OutputTakenError: not `overwrite`, and the name is taken; see `StagedFile.commit`.
    """
    if overwrite:
        part.replace(path)
    elif not _rename_to_free(part, path):
        raise OutputTakenError((path, _publish_near(part, path, _numbers("-"))))


def _publish_near(part: Path, path: Path, endings: Iterable[str]) -> Path:
    """Rename a finished file to the first free name of a path with one of the endings."""
    stem = path.stem if len(os.fsencode(path.name)) < _LONG else path.stem[:_STEM]
    return next(name for ending in endings if _rename_to_free(part, name := path.with_stem(stem + ending)))


def _numbers(before: str) -> Iterator[str]:
    return (f"{before}{number}" for number in count(2))


def _rename_to_free(part: Path, path: Path) -> bool:
    """Rename a file unless the new name is taken, atomically. Returns whether the name was free."""
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # reserves the name
        except FileExistsError:
            return False
        part.replace(path)
    else:
        part.unlink()
    return True


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM while a file is being finished, so that a second signal does not lose the work."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def is_full_disk(error: BaseException) -> bool:
    """Whether an error of any library means that the disk is full."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextlib.contextmanager
def full_disk_errors(
    path: Path,
    kind: type[MegaPortraitsError] = MediaError,
    *,
    fix: str = "Free some space or choose another folder; nothing was written.",
) -> Iterator[None]:
    """Turn errors of a full or read-only disk, of any library, into an expected error.

    Args:
        path: the file or folder that is written, for the message.
        kind: the error's class.
        fix: what the user can do, and what is kept.
    """
    try:
        yield
    except OSError as error:
        if not is_full_disk(error) and error.errno != errno.EROFS:
            raise
        raise kind(f"{path} cannot be written: {error.strerror or error}.", fix=fix) from error
