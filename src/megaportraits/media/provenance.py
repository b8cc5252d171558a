"""What an output says about its origin, in its metadata."""

from __future__ import annotations

from megaportraits import __version__


def synthetic_note(model: str) -> str:
    """The remark on an output of a model: unsigned text, which anybody can remove."""
    return f"Synthetic: MegaPortraits {model} {__version__}"
