"""Optional dependencies (the extras of `pyproject.toml`): a missing package becomes an error that names its extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from megaportraits.errors import MissingPackageError


@contextmanager
def optional_dependency(extra: str, purpose: str) -> Iterator[None]:
    """Wrap imports of optional packages.

    Args:
        extra: the extra that installs them, as in `pip install "megaportraits[EXTRA]"`.
        purpose: what needs them, the subject of the error's sentence.

    Raises:
        MissingPackageError: an import in the block found no such package. Missing modules of this package, and errors
            inside an installed one, pass unchanged.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "megaportraits"):
            raise
        raise MissingPackageError(package, extra, purpose) from error


def require(extra: str, purpose: str, *packages: str) -> None:
    """Check, before long work begins, that packages which it imports later are installed.

    Args:
        extra: see `optional_dependency`.
        purpose: see `optional_dependency`.
        packages: names to import.

    Raises:
        MissingPackageError: one is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingPackageError(package, extra, purpose)
