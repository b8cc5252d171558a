"""Checks before reading and writing files, and atomic outputs, which appear complete or not at all."""

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path

from megaportraits.errors import MediaError, MegaPortraitsError, OutputTakenError, SigningError
from megaportraits.media.locks import RENAMES_OPEN_FILES, remove_unless_in_use, try_lock
from megaportraits.reading import access, is_folder

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_STAGE = re.compile(r"\..*\.([0-9a-f]{8})\.[a-z0-9_]{8}\.part(\.[^.]*)?")
_DAY = 86_400.0
_STEM, _LONG = 40, 245  # characters of a stem that fit into every name; bytes of a name that leave room for a number
_NO_LINKS = (errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_swept: set[Path] = set()

Sign = Callable[[Path, Path], None]
"""Writes a signed copy (the second path) of a finished file (the first). Raises SigningError; see `credentials`."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
"""A scheme of two letters or more, which excludes Windows drive letters. `Path` merges the two slashes into one."""


def as_address(name: str | Path) -> str | None:
    """The URL if a name is one, for example `https://host/file`; None for file names."""
    found = _ADDRESS.fullmatch(str(name))
    if found is None:
        return None
    return f"{found[1]}:{'///' if found[1] == 'file' else '//'}{found[2]}"


def check_input(path: str | Path) -> Path:
    """A path that can be read as a file.

    Raises:
        MediaError: the file does not exist, is a folder, is empty or is not readable; the name is a URL or "-".
    """
    path = Path(path)
    with access(path, MediaError):
        there = path.exists()
    if not there:
        _refuse_streams(path, reading=True)
    if is_folder(path, MediaError):
        raise MediaError(f"{path}: expected a file, got a folder", fix="Name one image or video inside it.")
    if not path.exists():
        if path.is_symlink():
            raise MediaError(f"{path}: a symbolic link that leads to no file", fix="Link it to a file, or remove it.")
        raise MediaError(f"{path}: no such file", fix="Check the spelling of the path.")
    if not path.is_file():
        raise MediaError(f"{path}: expected a file, got a pipe or a device", fix="Save it as a file first.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty (0 bytes)", fix="Export or download it again.")
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path}: the file may not be read", fix="Change its permissions.")
    return path


def check_output(
    path: str | Path, *, overwrite: bool, inputs: Iterable[str | Path] = (), suffixes: Sequence[str] = ()
) -> Path:
    """A path that may be written.

    Args:
        path: the file to be written.
        overwrite: whether an existing file may be replaced.
        inputs: files that are read in the same run; they are never replaced, whatever `overwrite` says.
        suffixes: endings that the name may have, in lower case; none: any.

    Raises:
        MediaError: the path is a folder, is one of the inputs, has another ending, or exists and `overwrite` is false;
            the name is an address or "-".
    """
    path = Path(path)
    _refuse_streams(path, reading=False)
    if is_folder(path, MediaError):
        raise MediaError(f"{path}: expected a file name, got a folder", fix="Add a file name, as in out/result.mp4.")
    if suffixes and path.suffix.lower() not in suffixes:
        raise MediaError(
            f"{path}: expected a {' or '.join(suffixes)} file, got {path.suffix!r}",
            fix=f"For example {path.with_suffix(suffixes[0]).name}.",
        )
    with access(path, MediaError):
        there = path.exists()
        replaced = [source for source in map(Path, inputs) if there and source.exists() and path.samefile(source)]
    if replaced:
        raise MediaError(f"{path}: the output would replace its own input", fix="Choose another output name.")
    if there and not overwrite:
        raise MediaError(f"{path}: the file exists already", fix="Choose another name, or pass --overwrite.")
    return path


def check_outputs(folder: str | Path, names: Iterable[str], *, overwrite: bool) -> list[Path]:
    """Paths of the files that will be written into a folder, which may be missing yet.

    Raises:
        MediaError: `folder` is a file, or see `check_output`.
    """
    folder = Path(folder)
    _refuse_streams(folder, reading=False)
    if folder.exists() and not folder.is_dir():
        raise MediaError(f"{folder}: expected a folder, got a file", fix="Choose another --out.")
    return [check_output(folder / name, overwrite=overwrite) for name in names]


def output_file(output: str | Path, name: str) -> Path:
    """`output`, or the file `name` inside it if it is an existing folder or ends with a slash."""
    separators = ("/", os.sep)
    return Path(output) / name if str(output).endswith(separators) or Path(output).is_dir() else Path(output)


def plan_file(
    output: str | Path,
    name: str,
    *,
    overwrite: bool,
    inputs: Iterable[str | Path] = (),
    suffixes: Sequence[str] = (),
) -> Path:
    """The file that a command will write, checked before its work begins.

    Args:
        output: the file, or a folder for it; see `output_file`.
        name: its name in a folder.
        overwrite: see `check_output`.
        inputs: see `check_output`.
        suffixes: see `check_output`.

    Raises:
        MediaError: see `check_output`.
    """
    return check_output(output_file(output, name), overwrite=overwrite, inputs=inputs, suffixes=suffixes)


def write_all(writes: Iterable[Callable[[], object]]) -> None:
    """Write several outputs. One whose name was taken during the run, or that could not be signed, does not stop the
    others; those are reported together.

    Args:
        writes: one call for each output.

    Raises:
        OutputTakenError, SigningError: after the last call; see `StagedFile.commit`.
    """
    taken: list[tuple[Path, Path]] = []
    unsigned: list[SigningError] = []
    for write in writes:
        try:
            write()
        except OutputTakenError as error:
            taken += error.taken
        except SigningError as error:
            unsigned.append(error)
    if unsigned:
        raise SigningError(unsigned[0].reason, *(path for error in unsigned for path in error.kept))
    if taken:
        raise OutputTakenError(*taken)


def _refuse_streams(path: Path, *, reading: bool) -> None:
    """Refuse names that are not files: URLs, and "-", which means standard input or output to many programs."""
    if str(path) == "-":
        if reading:
            raise MediaError("-: standard input is not read", fix="Save it as a file, and name the file.")
        raise MediaError("-: nothing is written to standard output", fix="Name a file.")
    address = as_address(path)
    if address is not None:
        if reading:
            raise MediaError(f"{address}: addresses are not read", fix="Download it, and name the file.")
        raise MediaError(f"{address}: nothing is written to addresses", fix="Name a file of this machine.")


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
