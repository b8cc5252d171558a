"""Numba behind a typed decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function on first use and cache it on disk; numbers are assumed finite (fastmath)."""
    return cast(Function, numba.njit(cache=True, fastmath=True)(function))
