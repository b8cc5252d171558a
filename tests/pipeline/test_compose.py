"""Compositing: unchanged pixels are exact, and changed regions have no visible seam."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.errors import WeightsError
from megaportraits.ops.geometry import Crop, HeadPose, euler_to_matrix
from megaportraits.ops.pictures import over
from megaportraits.pipeline.compose import (
    REACH,
    Placement,
    Rendering,
    Surroundings,
    side_by_side,
    straight,
)

REST = HeadPose(np.eye(3), np.zeros(2), 1.0)
CROP = Crop(150.0, 120.0, 100.0)


def rendering(
    shift: tuple[float, float] = (0, 0), scale: float = 1.0, size: int = 100, level: float = 0.8, roll: float = 0
) -> Rendering:
    """A flat person (head and trunk) of one grey level, at a pose; `roll` in degrees, counter-clockwise."""
    e = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid((e - shift[0]) / scale, (e - shift[1]) / scale)
    cosine, sine = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    x, y = cosine * x - sine * y, sine * x + cosine * y
    alpha = ((np.hypot(x, y) < 0.5) | ((np.abs(x) < 0.6) & (y > 0.4))).astype(np.float32)
    picture = np.dstack([alpha * level] * 3 + [alpha])
    return Rendering(picture, HeadPose(euler_to_matrix(0, 0, roll), np.array(shift), scale))


def scenery() -> tuple[np.ndarray, np.ndarray]:
    """A grey photo (240 x 300) with that person in it, and the same without the person."""
    empty = np.full((240, 300, 3), 60, np.uint8)
    picture = empty.copy()
    y, x = np.mgrid[:240, :300] + 0.5
    x, y = (x - 150) / 50, (y - 120) / 50
    picture[(np.hypot(x, y) < 0.5) | ((np.abs(x) < 0.6) & (y > 0.4))] = 204
    return picture, empty


def around() -> Surroundings:
    n = 140
    e = ((np.arange(n) + 0.5) * 2 / n - 1) * REACH
    x, y = np.meshgrid(e, e)
    alpha = ((np.hypot(x, y) < 0.5) | ((np.abs(x) < 0.6) & (y > 0.4))).astype(np.float32)
    return Surroundings(np.rint(np.dstack([alpha * 204] * 3 + [alpha * 255])).astype(np.uint8), REST)


def paste(driven: Rendering) -> np.ndarray:
    picture, empty = scenery()
    placement = Placement(picture.shape, CROP, REACH)
    return placement.paste(picture, empty[placement.window], driven, around())


def test_over_is_the_compositing_formula() -> None:
    layer = np.array([[[0.25, 0, 0, 0.5]]], np.float32)
    assert over(layer, np.array([100, 200, 50], np.uint8))[0, 0].tolist() == [114, 100, 25]


def test_straight_undoes_the_multiplication() -> None:
    layer = np.array([[[0.25, 0.125, 0, 0.5], [0, 0, 0, 0]]], np.float32)
    assert straight(layer)[0].tolist() == [[128, 64, 0, 128], [0, 0, 0, 0]]


def test_resizing_never_makes_colours_brighter_than_their_alpha() -> None:
    for size in (37, 250):
        layer = rendering().resized(size)
        assert layer.shape == (size, size, 4)
        assert layer.min() >= 0
        assert (layer[..., :3] <= layer[..., 3:] + 1e-6).all()


def test_an_unmoved_person_gives_the_photo_back() -> None:
    picture, _ = scenery()
    change = np.abs(paste(rendering()).astype(int) - picture)
    assert np.median(change) == 0
    assert (change > 12).mean() < 0.01  # resampled outlines


def test_nothing_changes_outside_the_window() -> None:
    picture, _ = scenery()
    result = paste(rendering((0.2, 0.1)))
    outside = np.ones((240, 300), bool)
    outside[Placement(picture.shape, CROP, REACH).window] = False
    assert outside.any()
    assert np.array_equal(result[outside], picture[outside])


@pytest.mark.parametrize(("shift", "scale"), [((0.15, 0.0), 1.0), ((-0.1, 0.08), 1.0), ((0.0, 0.0), 1.15)])
def test_a_moved_body_meets_the_photos_own_at_the_lower_border(shift: tuple[float, float], scale: float) -> None:
    picture, _ = scenery()
    result = paste(rendering(shift, scale)).astype(int)
    border = slice(167, 176)  # the crop ends at row 170
    assert np.abs(result[border] - picture[border]).max() <= 4


@pytest.mark.parametrize("roll", [20, -20])
def test_a_rolled_trunk_is_upright_again_above_the_lower_border(roll: float) -> None:
    picture, _ = scenery()
    result = paste(rendering((0.1, 0.0), 1.05, roll=roll)).astype(int)
    rows = slice(155, 170)  # the trunk is 60 pixels wide; it was off by 24 and more
    assert (np.abs(result[rows, :, 0] - picture[rows, :, 0]) > 40).sum(1).max() <= 10


def test_a_moved_head_is_where_it_was_rendered() -> None:
    result = paste(rendering((0.2, 0.0)))[..., 0]
    columns = np.flatnonzero(result[110] > 130)  # a row through the head
    assert (columns[0] + columns[-1] + 1) / 2 == pytest.approx(150 + 0.2 * 50, abs=1)


def test_hair_above_the_crop_moves_with_the_head() -> None:
    # A column of hair reaches beyond the crop's upper border, at row 70.
    picture, empty = scenery()
    picture[40:100, 140:160] = 204
    surroundings = around().premultiplied.copy()
    surroundings[:50, 60:80] = (204, 204, 204, 255)
    driven = rendering((0.2, 0.0))
    driven.premultiplied[:30, 50:70] = (0.8, 0.8, 0.8, 1)
    placement = Placement(picture.shape, CROP, REACH)
    result = placement.paste(picture, empty[placement.window], driven, Surroundings(surroundings, REST))
    centers = [float(np.flatnonzero(result[row, :, 0] > 130).mean()) + 0.5 for row in (68, 71, 75, 85)]
    assert centers == pytest.approx([160] * 4, abs=3.5)
    assert np.abs(np.diff(centers)).max() < 3.5  # no step at the border
    assert result[71, 142, 0] < 100  # nothing is left where the hair was


@pytest.mark.parametrize(("reach", "top"), [(REACH, -1.0), (2.0, -1.6)])
def test_a_tall_hat_stays_whole_when_the_head_moves_down(reach: float, top: float) -> None:
    # What stood above the crop comes into it: the network has not seen it and leaves it empty.
    picture, empty = scenery()
    picture[round(120 + 50 * top) : 100, 140:160] = 204
    n = 200
    e = ((np.arange(n) + 0.5) * 2 / n - 1) * reach
    x, y = np.meshgrid(e, e)
    alpha = (np.hypot(x, y) < 0.5) | ((np.abs(x) < 0.6) & (y > 0.4)) | ((np.abs(x) < 0.2) & (y > top) & (y < 0))
    person = np.dstack([alpha * 204] * 3 + [alpha * 255]).astype(np.uint8)
    driven = rendering((0.0, 0.3))
    driven.premultiplied[15:60, 40:60] = (0.8, 0.8, 0.8, 1)  # the part of the hat that was in the crop
    placement = Placement(picture.shape, CROP, reach)
    result = placement.paste(picture, empty[placement.window], driven, Surroundings(person, REST, reach))[:, 150, 0]
    moved = round(120 + 50 * (top + 0.3))
    assert result[: moved - 4].max() <= 64  # nothing is left where it was
    assert result[moved + 4 : 150].min() > 190  # and it has no gap


def test_hair_around_the_crop_turns_with_the_head() -> None:
    # It hangs 4 cm before the head's axis: a yaw of 30 degrees moves it by 4 sin 30 = 2 cm, 1/8 of half a crop.
    picture, empty = scenery()
    picture[40:100, 140:160] = 204
    surroundings = around().premultiplied.copy()
    surroundings[:50, 60:80] = (204, 204, 204, 255)
    turned = Rendering(rendering().premultiplied, HeadPose(euler_to_matrix(30, 0, 0), np.zeros(2), 1.0))
    placement = Placement(picture.shape, CROP, REACH)
    result = placement.paste(picture, empty[placement.window], turned, Surroundings(surroundings, REST))
    assert float(np.flatnonzero(result[69, :, 0] > 130).mean()) + 0.5 == pytest.approx(150 + 50 / 8, abs=1)


def long_haired(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The matte of a head, shoulders, and a strand of hair on each side down to the shoulder; crop coordinates."""
    strands = (np.abs(np.abs(x) - 0.82) < 0.07) & (y > -0.4)
    return ((np.hypot(x, y) < 0.5) | strands | (y > 0.85)).astype(np.float32)


def strands_of(turned: Rendering) -> np.ndarray:
    """Columns, crop units, of the right strand in rows above the shoulder; NaN where it is not one run of pixels."""
    n = 140
    e = ((np.arange(n) + 0.5) * 2 / n - 1) * REACH
    person = long_haired(*np.meshgrid(e, e))
    y, x = np.mgrid[:240, :300] + 0.5
    picture = np.full((240, 300, 3), 60, np.uint8)
    empty = picture.copy()
    picture[long_haired((x - 150) / 50, (y - 120) / 50) > 0] = 204
    surroundings = np.dstack([person * 204] * 3 + [person * 255]).astype(np.uint8)
    placement = Placement(picture.shape, CROP, REACH)
    result = placement.paste(picture, empty[placement.window], turned, Surroundings(surroundings, REST))
    columns = []
    for row in result[115:160, 178:, 0] > 130:
        runs = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]]).astype(int)))
        columns.append((178 + runs.mean() - 150) / 50 if len(runs) == 2 else np.nan)
    return np.array(columns)


def test_long_hair_is_led_down_to_the_shoulder_in_one_piece() -> None:
    # As a yaw does, the rendering moves the strands by 0.2 towards the middle; no shift, zoom or roll tells of that.
    moved = 0.2
    n, cells = 100, 32
    e = (np.arange(n) + 0.5) * 2 / n - 1
    x, y = np.meshgrid(e, e)
    alpha = long_haired(x + moved * np.sign(x), y)
    alpha[(np.abs(x) < 0.5) & (np.hypot(x, y) > 0.5) & (y < 0.85)] = 0
    c = (np.arange(cells) + 0.5) * 2 / cells - 1
    across, _ = np.meshgrid(c, c)
    flow = np.dstack([moved * np.clip(across / 0.5, -1, 1), 0 * across, 1 + 0 * across]).astype(np.float32)
    picture = np.dstack([alpha * 0.8] * 3 + [alpha])
    columns = strands_of(Rendering(picture, REST, flow))
    assert np.isfinite(columns).all()  # no second strand where the photograph's was
    assert np.abs(np.diff(columns)).max() * 50 < 2.5  # pixels from row to row
    assert columns[0] < 0.7  # at the temple the hair goes along with the head,
    assert columns[-1] > 0.78  # at the shoulder it lies where the photograph shows it
    assert not np.isfinite(strands_of(Rendering(picture, REST))).all()  # what the flow is for


def test_what_the_network_left_out_of_a_moved_head_is_not_shown_beside_it() -> None:
    # A wide hat moves to the crop's left border; the network draws only the middle of it.
    picture, empty = scenery()
    n = 140
    e = ((np.arange(n) + 0.5) * 2 / n - 1) * REACH
    x, y = np.meshgrid(e, e)
    wide = ((np.abs(x) < 0.6) & (np.abs(y) < 0.3)).astype(np.float32)
    person = np.dstack([wide * 204] * 3 + [wide * 255]).astype(np.uint8)
    driven = rendering((-0.45, 0.0))
    driven.premultiplied[:, :20] = 0
    placement = Placement(picture.shape, CROP, REACH)
    result = placement.paste(empty, empty[placement.window], driven, Surroundings(person, REST))
    assert result[110:120, 90:108].max() < 70  # the crop begins at column 100
    assert result[110:120, 125:140].min() > 190


def test_hair_above_the_crop_goes_on_as_the_flow_at_the_border() -> None:
    picture, empty = scenery()
    picture[40:100, 140:160] = 204
    surroundings = around().premultiplied.copy()
    surroundings[:50, 60:80] = (204, 204, 204, 255)
    driven = rendering()
    driven.premultiplied[:30] = 0
    driven.premultiplied[:30, 50:70] = (0.8, 0.8, 0.8, 1)  # 0.2 to the right of where the photograph shows it
    cells = np.zeros((32, 32, 3), np.float32)
    cells[..., 2] = driven.premultiplied[::3, ::3, 3][:32, :32]
    cells[:12, :, 0] = -0.2
    turned = Rendering(driven.premultiplied, REST, cells)
    placement = Placement(picture.shape, CROP, REACH)
    result = placement.paste(picture, empty[placement.window], turned, Surroundings(surroundings, REST))
    centers = [float(np.flatnonzero(result[row, :, 0] > 130).mean()) + 0.5 for row in (66, 69, 72, 75)]
    assert centers == pytest.approx([160] * 4, abs=2)


def test_without_surroundings_the_crop_fades_into_the_picture() -> None:
    picture = np.full((240, 300, 3), 60, np.uint8)
    placement = Placement(picture.shape, CROP)
    full = Rendering(np.ones((100, 100, 4), np.float32), REST)
    result = placement.paste(picture, picture[placement.window], full).astype(int)
    assert result[120, 150, 0] == 255
    assert result[120, 100, 0] == 60
    assert np.abs(np.diff(result[120, 95:150, 0])).max() < 45


def test_crops_may_reach_outside_the_picture() -> None:
    picture = np.full((80, 90, 3), 60, np.uint8)
    placement = Placement(picture.shape, Crop(10.0, 5.0, 100.0), REACH)
    result = placement.paste(picture, picture[placement.window], rendering(), around())
    assert result.shape == picture.shape
    assert result[2, 10, 0] > 190


def test_squares_stand_in_a_row() -> None:
    a, b, c = (np.full((4, 4, 3), i, np.uint8) for i in range(3))
    assert side_by_side(a, b, c).shape == (4, 12, 3)
    assert side_by_side(a, b, c)[0, ::4, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_picture_or_pose_that_is_not_finite_is_an_error_not_a_black_frame(number: float) -> None:
    picture = rendering().premultiplied.copy()
    picture[3, 4, 1] = number
    with pytest.raises(WeightsError, match="NaN or infinite numbers"):
        Rendering(picture, REST)
    with pytest.raises(WeightsError, match="NaN or infinite numbers"):
        Rendering(rendering().premultiplied, HeadPose(np.eye(3), np.array([0, number]), 1.0))
