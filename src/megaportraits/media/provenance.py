"""What an output was made with and from, and the note in its metadata that it is synthetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from megaportraits import __version__


@dataclass(frozen=True)
class Origin:
    """What an output was made with and from; `media.credentials` states it in a signed manifest.

    Attributes:
        model: name of the weights.
        weights: the files of weights, by their role.
        source: the photograph or video of the person; None: unknown.
        composite: whether the output also shows pixels of the source or the driver, such as a background.
    """

    model: str
    weights: Mapping[str, Path] = field(default_factory=dict)
    source: Path | None = None
    composite: bool = True


def synthetic_note(model: str) -> str:
    """The note for outputs of a model: unsigned text, which anybody can remove."""
    return f"Synthetic: MegaPortraits {model} {__version__}"
