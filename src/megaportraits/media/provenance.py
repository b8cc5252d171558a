"""The note in the metadata of outputs that they are synthetic."""

from __future__ import annotations

from megaportraits import __version__


def synthetic_note(model: str) -> str:
    """The note for outputs of a model: unsigned text, which anybody can remove."""
    return f"Synthetic: MegaPortraits {model} {__version__}"
