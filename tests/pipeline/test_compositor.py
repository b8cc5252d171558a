"""The size of the region around a head that is matted."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.pipeline.compose import REACH
from megaportraits.pipeline.compositor import rises_beyond


def person(reach: float, top: float) -> np.ndarray:
    """The matte of a head with a hat that ends at row `top`, crop units, and of shoulders that leave the picture."""
    e = ((np.arange(200) + 0.5) / 100 - 1) * reach
    x, y = np.meshgrid(e, e)
    return ((np.hypot(x, y) < 0.5) | (y > 0.5) | ((np.abs(x) < 0.2) & (y > top) & (y < 0))).astype(np.float32)


@pytest.mark.parametrize(
    ("reach", "top", "beyond"), [(REACH, -0.6, False), (REACH, -1.02, False), (REACH, -1.3, True), (2.0, -1.3, False)]
)
def test_hats_but_not_shoulders_rise_beyond_a_window(reach: float, top: float, beyond: bool) -> None:
    assert rises_beyond(person(reach, top), reach) is beyond
