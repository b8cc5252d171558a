from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import polygon2mask

from megaportraits.errors import ShapeError
from megaportraits.evaluation.samples import EvaluationSample
from megaportraits.faces.regions import FACE_OVAL, LEFT_EYE, LIPS, RIGHT_EYE, box_mask, face_regions, hull_mask


def test_a_box_holds_the_pixels_whose_centres_are_inside() -> None:
    mask = box_mask(np.array([[2.0, 5.0], [6.0, 7.0]]), 10)
    assert np.argwhere(mask.any(0)).ravel().tolist() == [2, 3, 4, 5]
    assert np.argwhere(mask.any(1)).ravel().tolist() == [5, 6]
    wider = box_mask(np.array([[2.0, 5.0], [6.0, 7.0]]), 10, margin=0.25)
    assert (wider.any(0).sum(), wider.any(1).sum()) == (6, 4)


def test_a_hull_holds_about_the_pixels_whose_centres_are_inside() -> None:
    points = np.array([[10.0, 12.0], [50.0, 8.0], [58.0, 40.0], [30.0, 57.0], [6.0, 33.0], [30.0, 30.0]])
    mask = hull_mask(points, 64)
    exact = polygon2mask((64, 64), points[:5, ::-1] - 0.5)
    assert np.mean(mask != exact) < 0.03
    assert mask[30, 30]


def test_mouth_and_eyes_lie_inside_the_face_and_apart(sample: EvaluationSample) -> None:
    true = sample.frames[0]
    points = true.crop.image_to_crop(true.face.landmarks[:, :2])
    regions = face_regions(points, 128)
    assert (regions.mouth & regions.face).sum() > 0.95 * regions.mouth.sum()
    assert (regions.eyes & regions.face).sum() > 0.95 * regions.eyes.sum()
    assert not (regions.mouth & regions.eyes).any()
    pixels = ((points + 1) * 64).astype(int)
    for outline, mask in ((LIPS, regions.mouth), (LEFT_EYE, regions.eyes), (RIGHT_EYE, regions.eyes)):
        x, y = pixels[list(outline)].T
        assert mask[y, x].all()
    assert regions.face.sum() < regions.face.size / 4
    assert set(FACE_OVAL).isdisjoint(LIPS)


def test_other_landmarks_are_refused() -> None:
    with pytest.raises(ShapeError, match="478"):
        face_regions(np.zeros((468, 2)), 64)
