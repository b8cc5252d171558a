"""From a camera to a screen while it happens: the newest frame, as soon as possible, by whatever runs fastest here."""

from megaportraits.live.loop import LiveOptions, run_live

__all__ = ["LiveOptions", "run_live"]
