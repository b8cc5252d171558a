"""Backgrounds for live animation."""

from __future__ import annotations

import numpy as np

from megaportraits.faces.matting import Matting
from megaportraits.live.engines import GraphPortrait
from megaportraits.live.loop import Compose
from megaportraits.media.images import UInt8
from megaportraits.ops.pictures import over
from megaportraits.pipeline import AnimateOptions, Background, Portrait, Rendering
from megaportraits.pipeline.compositor import Compositor
from megaportraits.pipeline.driver import DriverFrame
from megaportraits.pipeline.options import Color


def flat(color: Color, size: int) -> Compose:
    """Composite over a flat colour, at `size` x `size` pixels."""
    background = np.array(color, np.uint8)

    def compose(rendering: Rendering, view: DriverFrame) -> UInt8:
        del view
        return over(rendering.resized(size), background)

    return compose


def photo(portrait: Portrait | GraphPortrait, matting: Matting, size: int, *, whole: bool) -> Compose:
    """Composite over the photograph's own background: its head crop, or (`whole`) the whole photograph."""
    options = AnimateOptions(background=Background.SOURCE, crop=not whole)
    compositor = Compositor(portrait, options, matting, portrait.rest, size=size)

    def compose(rendering: Rendering, view: DriverFrame) -> UInt8:
        return compositor.compose(rendering, view)[0]

    return compose
