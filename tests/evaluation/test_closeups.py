"""Closeups show the named region at the right place, for images of any size."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.evaluation.report.closeups import CELLS, REGIONS, boxes_of, closeup
from megaportraits.faces.outlines import LEFT_EYE, LIPS, RIGHT_EYE


@pytest.mark.parametrize("side", [100, 400])
def test_a_regions_picture_is_centred_on_it_and_holds_all_of_it(side: int) -> None:
    points = np.zeros((478, 2))
    points[list(RIGHT_EYE)], points[list(LEFT_EYE)], points[list(LIPS)] = (30, 40), (70, 40), (50, 80)
    points[LIPS[0]], points[LIPS[1]] = (40, 78), (60, 82)
    boxes = boxes_of(points * side / 100, side)
    picture = np.zeros((side, side, 3), np.uint8)
    for x, y, colour in ((30, 40, (255, 0, 0)), (70, 40, (0, 255, 0)), (50, 80, (0, 0, 255))):
        reach = 3 * side // 100
        picture[
            y * side // 100 - reach : y * side // 100 + reach, x * side // 100 - reach : x * side // 100 + reach
        ] = colour
    eyes, mouth = (closeup(picture, box, region) for box, region in zip(boxes, REGIONS, strict=True))
    for cell, region in ((eyes, "eyes"), (mouth, "mouth")):
        assert cell.shape == (*reversed(CELLS[region]), 3)
    width, height = CELLS["eyes"]
    for channel, x in ((0, width / 2 - width / 2 / 1.4), (1, width / 2 + width / 2 / 1.4)):
        rows, columns = np.nonzero(eyes[..., channel] > 128)
        assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((x, height / 2), abs=0.7)
    assert not (eyes[..., 2] > 128).any()
    rows, columns = np.nonzero(mouth[..., 2] > 128)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((CELLS["mouth"][0] / 2, 75), abs=0.7)
