"""What readers and writers of files share: clear refusals, outputs that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from megaportraits.errors import MediaError

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
"""A scheme of two letters or more, so that drives of Windows are none. `Path` makes one slash of two."""


def as_address(name: str | Path) -> str | None:
    """The address that a name is, as `https://host/file`; None for names of files."""
    found = _ADDRESS.fullmatch(str(name))
    if found is None:
        return None
    return f"{found[1]}:{'///' if found[1] == 'file' else '//'}{found[2]}"


def check_input(path: str | Path) -> Path:
    """A path that can be read as a file.

    Raises:
        MediaError: nothing is there, a folder is there, the file is empty or may not be read; the name is an address
            or "-".
    """
    path = Path(path)
    if not path.exists():
        _refuse_streams(path, reading=True)
    if path.is_dir():
        raise MediaError(f"{path}: expected a file, got a folder", fix="Name one image or video inside it.")
    if not path.exists():
        raise MediaError(f"{path}: no such file", fix="Check the spelling of the path.")
    if not path.is_file():
        raise MediaError(f"{path}: expected a file, got a pipe or a device", fix="Save it as a file first.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty (0 bytes)", fix="Export or download it again.")
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path}: the file may not be read", fix="Change its permissions.")
    return path


def check_output(path: str | Path, *, overwrite: bool, inputs: tuple[str | Path, ...] = ()) -> Path:
    """A path that may be written.

    Args:
        path: the file to be written.
        overwrite: whether an existing file may be replaced.
        inputs: files that are read in the same run; they are never replaced, whatever `overwrite` says.

    Raises:
        MediaError: the path is a folder, is one of the inputs, or exists and `overwrite` is false; the name is an
            address or "-".
    """
    path = Path(path)
    _refuse_streams(path, reading=False)
    if path.is_dir():
        raise MediaError(f"{path}: expected a file name, got a folder", fix="Add a file name, as in out/result.mp4.")
    for source in map(Path, inputs):
        if path.exists() and source.exists() and path.samefile(source):
            raise MediaError(f"{path}: the output would replace its own input", fix="Choose another output name.")
    if path.exists() and not overwrite:
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
    """`output`, or the file `name` in it where it is a folder: one that exists, or a text that ends with a slash."""
    separators = ("/", os.sep)
    return Path(output) / name if str(output).endswith(separators) or Path(output).is_dir() else Path(output)


def _refuse_streams(path: Path, *, reading: bool) -> None:
    """Say so where a name means no file: "-" is standard input or output to many programs."""
    if str(path) == "-":
        if reading:
            raise MediaError("-: standard input is not read", fix="Save it as a file, and name the file.")
        raise MediaError("-: nothing is written to standard output", fix="Name a file.")
    address = as_address(path)
    if address is not None:
        if reading:
            raise MediaError(f"{address}: addresses are not read", fix="Download it, and name the file.")
        raise MediaError(f"{address}: nothing is written to addresses", fix="Name a file of this machine.")


@contextlib.contextmanager
def staged_output(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block ends well.

    Missing parent folders are made. When the block raises, the temporary file is removed and a file that
    stood at `path` before is untouched.

    Raises:
        MediaError: see `check_output`; the folder cannot be written; the disk is full.
    """
    part = open_stage(path, overwrite=overwrite)
    try:
        with full_disk_is_said(path):
            yield part
        commit_stage(part, path)
    finally:
        part.unlink(missing_ok=True)


def open_stage(path: Path, *, overwrite: bool) -> Path:
    """Make the empty temporary file beside `path` that `commit_stage` will rename."""
    check_output(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".part{path.suffix}", dir=path.parent)
    except OSError as error:
        raise MediaError(
            f"{path.parent}: the folder cannot be written ({error.strerror or error})",
            fix="Choose another folder.",
        ) from error
    os.close(handle)
    return Path(name)


def commit_stage(part: Path, path: Path) -> None:
    """Give the finished temporary file its final name, with the permissions of an ordinary new file."""
    mask = os.umask(0)
    os.umask(mask)
    part.chmod(0o666 & ~mask)
    part.replace(path)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back while a file is finished: a second, impatient one must not cost the work."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def full_disk_is_said(path: Path) -> Iterator[None]:
    """Turn "no space left" of any library into a `MediaError` that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise MediaError(
                f"{path}: the disk is full ({error.strerror}); nothing was written",
                fix="Free some space or choose another folder.",
            ) from error
        raise
