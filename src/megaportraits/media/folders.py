"""Output folders with one writer at a time, and small files that are written atomically."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from megaportraits.errors import DataError
from megaportraits.media.locks import RENAMES_OPEN_FILES, try_lock
from megaportraits.reading import is_file, read_record, shown

LOCK = ".lock"
_SPARE_BYTES = 500_000_000
RESUMES = "Free some space, then repeat the same command to resume."
"""What to do where a folder that several commands fill cannot be written."""
_held: dict[Path, int] = {}


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Create a folder and hold its lock (on a file `.lock`) during the block; yields False if another process holds it.

    A process that holds the lock can acquire it again. The lock is released when the process ends, even after a crash;
    forked children do not hold it. A folder that was created for the lock and stays empty is removed.

    Raises:
        DataError: the folder cannot be made or written.
    """
    key = folder.absolute()
    if key in _held:
        yield True
        return
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        handle = _take(folder / LOCK)
    except OSError as error:
        raise DataError(
            f"{folder}: the folder cannot be written ({error.strerror or error}).", fix="Choose another folder."
        ) from error
    if handle is None:
        yield False
        return
    _held[key] = handle
    try:
        yield True
    finally:
        if _held.pop(key, None) is not None:
            if not RENAMES_OPEN_FILES:
                os.close(handle)
            with contextlib.suppress(OSError):
                if list(folder.iterdir()) == [folder / LOCK]:
                    (folder / LOCK).unlink()
                    if made:
                        folder.rmdir()
            if RENAMES_OPEN_FILES:  # only now: another process must not take the lock of a file that goes
                os.close(handle)


@contextlib.contextmanager
def sole_process(folder: Path, *, of: Path | None = None) -> Iterator[None]:
    """Hold a folder's lock during the block.

    Args:
        folder: see `folder_lock`.
        of: the folder to name in messages, if the lock is in a sub-folder of it.

    Raises:
        DataError: another process holds it, or the folder cannot be made or written.
    """
    with folder_lock(folder) as free:
        if not free:
            raise DataError(f"Another process is writing to {of or folder}.", fix="Wait for it, or stop it.")
        yield


def check_settings(note: Path, wanted: Mapping[str, Any], kind: str) -> None:
    """Compare the settings of a run with those of an earlier run, which the file `note` in its output folder contains.

    Args:
        note: file of the settings; if it does not exist, the folder has to be empty.
        wanted: of this run.
        kind: what the message calls such a folder.

    Raises:
        DataError: different settings, a damaged note, or a folder with other content.
    """
    out = note.parent
    if is_file(note, DataError):
        there = read_record(note, DataError, fix="Restore the file from a copy, or choose another --out.")
        names = [name for name in sorted({*there, *wanted}) if there.get(name) != wanted.get(name)]
        if names:
            what = ", ".join(f"{name} {shown(there.get(name))} there, {wanted.get(name)} now" for name in names[:20])
            raise DataError(
                f"{out} was made with other settings: {what}.",
                fix="Use the same settings to resume, or another --out.",
            )
    elif out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise DataError(f"{out} is not empty and not a {kind} folder.", fix="Choose an empty --out.")


@contextlib.contextmanager
def job_folder(note: Path, settings: Mapping[str, Any], kind: str, parts: Sequence[str] = ()) -> Iterator[None]:
    """Claim the output folder of a resumable job during the block.

    The folder is locked, and unfinished files in it are removed before and after the block.

    Args:
        note: the file in the folder that stores the settings; see `check_settings`.
        settings: of this run.
        kind: what messages call such a folder.
        parts: names of sub-folders in which the job writes files.

    Raises:
        DataError: different settings, a folder with other content, another process is writing to it, or it cannot be
            written.
    """
    check_settings(note, settings, kind)
    folders = [note.parent, *(note.parent / name for name in parts)]
    with sole_process(note.parent):
        _remove_partial(folders)
        try:
            if not note.is_file():
                write_json(note, settings, indent=1)
            yield
        finally:
            _remove_partial(folders)


def _remove_partial(folders: Sequence[Path]) -> None:
    """Remove unfinished files; call only while no other process is writing to the folders."""
    for folder in folders:
        for stale in folder.glob(".*.partial"):
            stale.unlink(missing_ok=True)


def check_space(folder: Path, needed: float, fix: str) -> None:
    """Check that a folder's disk has room for `needed` bytes and a reserve of 0.5 GB.

    Raises:
        DataError: it has not; `fix` is the hint of the message.
    """
    free, needed = shutil.disk_usage(folder).free, needed + _SPARE_BYTES
    if free < needed:
        raise DataError(f"{folder} needs about {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free.", fix=fix)


def _forget() -> None:
    """Close the lock's descriptor in a forked child, which would hold the lock after its parent was killed."""
    for handle in _held.values():
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget)


def _take(path: Path) -> int | None:
    """A descriptor that holds the lock; None if another process holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not try_lock(handle):
                os.close(handle)
                return None
        except OSError:
            return handle  # a file system without locks
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)  # the previous process removed it with its empty folder
        path.parent.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file atomically, even if the machine crashes; it replaces an existing one.

    The file appears under `path` when the block ends; if the block raises, nothing is left. A killed process leaves
    `.NAME.*.partial`, which the holder of the folder's lock may remove.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by `whole_file`."""
    with whole_file(path) as file:
        file.write(content)


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """Write JSON atomically; NaN and infinity are refused."""
    write_whole(path, (json.dumps(content, allow_nan=False, indent=indent) + "\n").encode())
