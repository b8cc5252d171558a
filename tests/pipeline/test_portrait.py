from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from megaportraits.errors import MediaError, ShapeError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.orientation import roll_of
from megaportraits.media import Limits, write_image
from megaportraits.pipeline.portrait import find_source_head, flatten, key_color

GREEN, BLUE = (32.0, 224.0, 32.0), (32.0, 32.0, 224.0)


def test_a_pil_image_is_a_source(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    of_array = find_source_head(portrait, analyzer)
    of_image = find_source_head(Image.fromarray(portrait).convert("RGBA"), analyzer)
    assert np.array_equal(of_image.photo, portrait)
    assert of_image.crop == of_array.crop


def test_an_object_that_is_no_source_is_refused_with_the_accepted_types(analyzer: FaceAnalyzer) -> None:
    for source in (None, [1], np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3))):
        with pytest.raises(ShapeError, match="the source: expected a file's path, a PIL image or"):
            find_source_head(source, analyzer)  # type: ignore[arg-type]


def test_limits_hold_for_sources(analyzer: FaceAnalyzer, tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(MediaError, match="megapixels, got 20 x 20"):
        find_source_head(path, analyzer, limits=Limits(pixels=399))


@pytest.mark.parametrize(("clothes", "expected"), [((20, 160, 50), BLUE), ((30, 40, 200), GREEN)])
def test_a_person_in_green_stands_before_blue_and_one_in_blue_before_green(
    clothes: tuple[int, int, int], expected: tuple[float, float, float]
) -> None:
    head = np.full((20, 20, 3), (200, 150, 130), np.uint8)
    head[15:] = clothes
    matte = np.ones((20, 20), np.float32)
    assert tuple(key_color(head, matte)) == expected


def test_what_the_matte_leaves_out_does_not_choose_the_colour() -> None:
    head = np.full((20, 20, 3), (200, 150, 130), np.uint8)
    head[:5] = (30, 40, 200)
    matte = np.ones((20, 20), np.float32)
    matte[:5] = 0
    without = head.copy()
    without[:5] = (20, 160, 50)
    assert tuple(key_color(head, matte)) == tuple(key_color(without, matte))
    assert tuple(key_color(head, np.zeros((20, 20), np.float32))) in (GREEN, BLUE)


def test_flattening_shows_the_colour_where_the_matte_is_zero_and_the_head_where_it_is_one() -> None:
    head = np.full((2, 2, 3), (200, 150, 130), np.uint8)
    matte = np.array([[0, 0.5], [1, 1]], np.float32)
    flat = flatten(head, matte, np.array(GREEN))
    assert flat[0, 0].tolist() == [32, 224, 32]
    assert flat[0, 1].tolist() == [116, 187, 81]
    assert flat[1].tolist() == head[1].tolist()


@pytest.mark.parametrize("lies", [1, 2, 3])
def test_a_photograph_that_lies_on_its_side_is_turned_before_a_face_is_chosen(
    analyzer: FaceAnalyzer, portrait: np.ndarray, lies: int
) -> None:
    pair = np.ascontiguousarray(np.hstack([portrait[:300, 50:400], portrait[:300, 50:400]]))
    head = find_source_head(np.ascontiguousarray(np.rot90(pair, lies)), analyzer, 2)
    np.testing.assert_array_equal(head.photo, pair)
    assert head.turns == -lies % 4
    assert abs(roll_of(head.face)) < 30
    assert head.face.box[0] > 350  # the second from the left of the upright picture
