"""Labels of eyes and mouths in real clips."""

from __future__ import annotations

import torch

from megaportraits.faces.outlines import FEATURES, LEFT_EYE, RIGHT_EYE
from megaportraits.training.features import visible_irises


def test_a_closed_eye_hides_its_iris_and_nothing_else() -> None:
    marks = torch.zeros(2, len(FEATURES), 2)
    for loop, corner in ((RIGHT_EYE, -0.3), (LEFT_EYE, 0.3)):
        at = FEATURES.index(loop[0])
        marks[:, at + 8, 0] = corner  # the inner corner, 0.3 from the outer one
        marks[:, at + 4, 1] = -0.06  # the upper lid
    marks[1, FEATURES.index(LEFT_EYE[4]), 1] = -0.03  # closed: a tenth of its width
    seen = visible_irises(marks)
    assert seen.isnan().any(-1).nonzero().tolist() == [[1, len(FEATURES) - 1]]
    known = ~seen.isnan()
    assert torch.equal(seen[known], marks[known])


def test_unknown_landmarks_stay_unknown() -> None:
    assert visible_irises(torch.full((1, len(FEATURES), 2), torch.nan)).isnan().all()
