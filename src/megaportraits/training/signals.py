"""Handling of Ctrl-C and SIGTERM during a run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C and SIGTERM set a flag, which the yielded function reads. A second signal has its usual effect."""
    flag: list[int] = []
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, _: Any) -> None:
        flag.append(number)
        for s, old in previous.items():
            signal.signal(s, old)

    for s in previous:
        signal.signal(s, handler)
    try:
        yield lambda: bool(flag)
    finally:
        for s, old in previous.items():
            signal.signal(s, old)
