"""Numba behind a typed decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from megaportraits.extras import optional_dependency

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function on first use and cache it on disk; numbers are assumed finite (fastmath).

    Raises:
        MissingPackageError: numba is not installed.
    """
    with optional_dependency("train", "Rendering of synthetic heads"):
        import numba
    return cast(Function, numba.njit(cache=True, fastmath=True)(function))
