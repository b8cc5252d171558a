"""Image quality: HyperIQA (the paper's) if its weights are installed, otherwise a stand-in with its own name."""

from __future__ import annotations

from megaportraits import weights
from megaportraits.errors import ConfigError
from megaportraits.prepare.cutting import Quality
from megaportraits.prepare.measures import STAND_IN, stand_in_quality

HYPERIQA = "hyperiqa"


def best_quality() -> str:
    """The name of the best measure whose weights are installed."""
    return HYPERIQA if weights.state(weights.lookup(HYPERIQA)) == "present" else STAND_IN


def quality_of(name: str) -> Quality:
    """The measure with a name.

    Raises:
        ConfigError: no such measure. WeightsError: its weights are not there.
    """
    if name == STAND_IN:
        return stand_in_quality
    if name == HYPERIQA:
        from megaportraits.nn.hyperiqa import HyperIQA

        network = HyperIQA.from_file(weights.fetch(HYPERIQA))
        return lambda image, face: network.score(image)
    raise ConfigError(f"Unknown image quality {name!r}.", fix=f"Known: {HYPERIQA}, {STAND_IN}.")
