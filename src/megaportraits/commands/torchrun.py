"""What commands need to know about the processes that torchrun starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_POLL = 2.0
"""Seconds between two checks of a condition."""


def rank() -> int:
    """The rank of this process under torchrun; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def wait_until(ready: Callable[[], bool]) -> None:
    """Wait until process 0 has done something; torchrun ends this process if process 0 fails."""
    while not ready():
        time.sleep(_POLL)
