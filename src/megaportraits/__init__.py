"""MegaPortraits: one-shot megapixel neural head avatars (Drobyshev et al., ACM MM 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.12.0"

if TYPE_CHECKING:
    from megaportraits.pipeline import Avatar

__all__ = ["Avatar", "__version__"]


def __getattr__(name: str) -> object:
    """Import `Avatar` on first use, so that `import megaportraits` stays free of torch."""
    if name == "Avatar":
        from megaportraits.pipeline import Avatar

        return Avatar
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
