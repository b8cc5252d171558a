"""Locks on open files, on every platform; they are released when the process ends, even after a crash."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

RENAMES_OPEN_FILES = sys.platform != "win32"
"""Whether a file can be renamed and removed while a process has it open. On Windows it cannot."""


def try_lock(handle: int) -> bool:
    """Lock an open file for this process; returns False if another process holds the lock.

    Raises:
        OSError: the file system has no locks.
    """
    if sys.platform == "win32":
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_unless_in_use(path: Path) -> None:
    """Remove a file, unless a running process has it open (Windows) or locked (elsewhere).

    Raises:
        OSError: the file is in use, or cannot be removed.
    """
    if not RENAMES_OPEN_FILES:
        path.unlink()  # fails while a process has it open
        return
    handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if not try_lock(handle):
            raise BlockingIOError(f"{path} is locked")
        path.unlink()
    finally:
        os.close(handle)
