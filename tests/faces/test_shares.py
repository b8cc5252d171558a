"""The division of a group photograph's pixels among its people."""

from __future__ import annotations

import numpy as np

from megaportraits.faces.detector import Face
from megaportraits.faces.shares import share_of
from megaportraits.ops.geometry import Crop

WHOLE = Crop(100, 100, 200)


def face(x: float, y: float, height: float) -> Face:
    """A round face around a point."""
    angles = np.linspace(0, 2 * np.pi, 478)
    landmarks = np.stack([x + height / 2 * np.cos(angles), y + height / 2 * np.sin(angles), 0 * angles], -1)
    half = height / 2
    box = np.array([x - half, y - half, x + half, y + half], np.float32)
    return Face(box, landmarks.astype(np.float32), 1.0, np.zeros(52, np.float32))


def test_a_face_alone_owns_everything() -> None:
    assert (share_of(face(100, 80, 60), (), WHOLE, 50) == 1).all()


def test_two_neighbours_part_the_picture_between_them() -> None:
    left, right = face(60, 90, 60), face(140, 90, 60)
    a, b = share_of(left, (right,), WHOLE, 200), share_of(right, (left,), WHOLE, 200)
    np.testing.assert_allclose(a + b, 1, atol=0.02)
    np.testing.assert_allclose(a, b[:, ::-1], atol=0.02)
    assert a[90, 60] == 1 and a[90, 140] == 0  # both faces
    assert a[190, 70] > 0.99 and a[190, 130] < 0.01  # both trunks


def test_a_large_neighbour_reaches_further_than_a_small_one() -> None:
    small, large = face(50, 90, 30), face(130, 90, 90)
    share = share_of(small, (large,), WHOLE, 200)
    assert share[90, 66] > 0.9 and share[90, 78] < 0.1  # three times the height, three times as far: 70


def test_somebody_behind_keeps_the_face_above_the_one_in_front() -> None:
    behind, front = face(100, 50, 40), face(105, 120, 60)
    a, b = share_of(behind, (front,), WHOLE, 200), share_of(front, (behind,), WHOLE, 200)
    assert a[50, 100] == 1 and b[50, 100] == 0
    assert b[120, 105] == 1 and a[120, 105] == 0
    assert b[85, 105] > 0.9 and a[85, 105] < 0.1  # the front one's hair


def test_a_face_is_its_owners_also_where_a_neighbour_is_nearer() -> None:
    """Two faces that overlap from 80 to 120: the middle between them is at 100."""
    share = share_of(face(90, 90, 60), (face(110, 90, 60),), WHOLE, 200)
    assert share[90, 112] > 0.99 and share[90, 130] < 0.01


def test_crops_may_lie_anywhere() -> None:
    left, right = face(60, 90, 60), face(140, 90, 60)
    part = Crop(60, 90, 100)  # pixels 10 to 110
    whole = share_of(left, (right,), WHOLE, 200)
    np.testing.assert_allclose(share_of(left, (right,), part, 100), whole[40:140, 10:110], atol=0.1)
