"""Rendering: projection as the labels define it, the fading neck, surface maps, and edges without fringes."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.ops.geometry import HEAD_CENTER, euler_to_matrix
from megaportraits.synth.head import MorphableHead
from megaportraits.synth.stage import NECK, HeadMotion, bleed, develop, fading, place, surface_map, to_pixels


def motion(*angles: float, **rest: object) -> HeadMotion:
    return HeadMotion.about_neck(np.zeros(57, np.float32), (0, 0), euler_to_matrix(*angles), **rest)  # type: ignore[arg-type]


def test_head_points_appear_where_the_label_projects_them(head: MorphableHead) -> None:
    turned = motion(20, -8, 5, scale=1.1, shift=(0.1, -0.05), body=euler_to_matrix(3, 0, 2))
    points = head.neutral[head.neutral[:, 1] > -6]
    placed = place(points, fading(points), turned, euler_to_matrix(4, 5, 6))
    assert placed == pytest.approx(turned.pose.project(points), abs=1e-5)


def test_an_unturned_head_is_centred(head: MorphableHead) -> None:
    assert motion(0, 0, 0, scale=1.15).pose.project(np.array([HEAD_CENTER]))[0, :2] == pytest.approx([0, 0])


def test_the_neck_stays_while_the_head_turns() -> None:
    still, turned = (motion(*angles).pose.project(NECK[None])[0, :2] for angles in ((0, 0, 0), (25, 10, -12)))
    assert turned == pytest.approx(still)


def test_the_body_does_not_follow_the_head(head: MorphableHead) -> None:
    body = head.neutral[(head.neutral[:, 1] < -14) & (head.neutral[:, 1] > -19.5)]
    share = fading(body)
    assert not share.any()
    still, turned = (place(body, share, motion(*angles)) for angles in ((0, 0, 0), (25, 0, 0)))
    assert turned[:, :2] == pytest.approx(still[:, :2], abs=1e-5)


def test_an_image_rotation_turns_head_and_body_alike(head: MorphableHead) -> None:
    tilt = euler_to_matrix(0, 0, 20)
    points = head.neutral[:11248]
    upright, tilted = (place(points, fading(points), m) for m in (motion(0, 0, 0), motion(0, 0, 20, body=tilt)))
    y_up = upright * [1, -1, 1]
    assert tilted * [1, -1, 1] == pytest.approx(y_up @ tilt.T, abs=1e-5)


def test_the_rotation_fades_without_a_step() -> None:
    y = np.linspace(-20, 5, 2000)
    share = fading(np.c_[y, y, y])
    assert share[0] == 0 and share[-1] == 1 and np.abs(np.diff(share)).max() < 0.01


def test_pixels_have_integer_edges() -> None:
    corners = np.array([[-1, -1, 0.5], [1, 1, 0.25]], np.float32)
    assert to_pixels(corners, 128).tolist() == [[0, 0, 0.5], [128, 128, 0.25]]


def test_a_surface_map_tells_canonical_point_and_depth() -> None:
    turned = motion(15, -5, 3, scale=1.05)
    canonical = np.array([[-6, -6, 2], [6, -6, 3], [0, 8, 7]], np.float32)
    placed = place(canonical, np.ones(3, np.float32), turned)
    coords, valid = surface_map(canonical, placed, np.array([[0, 1, 2]], np.int32), np.ones((128, 128), np.float32))
    y, x = np.nonzero(valid)
    assert valid.sum() > 200
    projected = turned.pose.project(coords[valid][:, :3] * [16, -16, 16])
    assert projected[:, :2] == pytest.approx(np.c_[x + 0.5, y + 0.5] / 32 - 1, abs=1e-5)
    assert coords[valid][:, 3] == pytest.approx(projected[:, 2], abs=1e-5)


def test_transparent_surfaces_are_not_in_the_map() -> None:
    corners = np.array([[-16, -16, 0], [16, -16, 0], [0, 16, 0]], np.float32)
    placed = place(corners, np.ones(3, np.float32), motion(0, 0, 0))
    _, valid = surface_map(corners, placed, np.array([[0, 1, 2]], np.int32), np.zeros((64, 64), np.float32))
    assert not valid.any()


def test_colours_continue_beyond_the_matte() -> None:
    """A red disc: composited on any colour, no pixel holds anything but red and that colour."""
    y, x = np.mgrid[0:64, 0:64]
    alpha = np.clip(20 - np.hypot(x - 32, y - 32), 0, 1).astype(np.float32)
    premultiplied = np.dstack([alpha * 0.8, alpha * 0.1, alpha * 0.2, alpha])
    image, matte = develop(premultiplied, 64)
    assert np.abs(image.astype(int) - [204, 26, 51]).max() <= 1
    assert np.array_equal(matte, np.round(alpha * 255))


def test_bleeding_changes_nothing_where_the_person_is() -> None:
    rng = np.random.default_rng(0)
    colour = rng.random((32, 32, 3)).astype(np.float32)
    assert bleed(colour, np.ones((32, 32), np.float32)) == pytest.approx(colour, abs=1e-5)
