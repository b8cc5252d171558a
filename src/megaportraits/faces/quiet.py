"""Filter the standard error output of native libraries, which bypasses Python's `sys.stderr`."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2
_lock = threading.Lock()


@contextmanager
def without_native_info() -> Iterator[None]:
    """Drop lines `INFO: ...` that native code writes to standard error in the block.

    LiteRT's minimum severity cannot be set from Python. All other lines are written when the block ends or raises. Only
    one thread at a time runs such a block; output of other threads during it is also delayed and filtered.
    """
    with _lock, tempfile.TemporaryFile() as kept:
        try:
            original = os.dup(_STDERR)
        except OSError:  # the process has no standard error
            yield
            return
        os.dup2(kept.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(original, _STDERR)
            os.close(original)
            kept.seek(0)
            for line in kept:
                if not line.startswith(b"INFO: "):
                    os.write(_STDERR, line)
