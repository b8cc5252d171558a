"""The procedural head."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.synth.cg import CgCast
from megaportraits.synth.correspondence import find_correspondence, geometric_median
from megaportraits.synth.head import MorphableHead
from megaportraits.synth.stage import HeadMotion


@pytest.fixture(scope="module")
def cast(head: MorphableHead) -> CgCast:
    return CgCast(head)


def facing(head: MorphableHead, yaw: float = 0.0, **weights: float) -> HeadMotion:
    return HeadMotion.about_neck(head.coefficients(weights), (0, 0), euler_to_matrix(yaw, 0, 0))


def test_a_number_is_a_person(head: MorphableHead) -> None:
    first, again, other = (CgCast(head).person(n).render(facing(head), 64) for n in (7, 7, 8))
    assert np.array_equal(first.image, again.image)
    assert np.abs(first.image.astype(int) - other.image).mean() > 5


def test_head_vertices_appear_where_the_label_says(head: MorphableHead, cast: CgCast) -> None:
    person, motion = cast.person(3), facing(head, 40, jawOpen=0.5)
    mesh, placed = person.place(motion)
    above = person.base[:, 1] > -6
    assert placed[above] == pytest.approx(motion.pose.project(mesh[above]), abs=1e-4)


def test_the_map_of_an_unmoved_face_projects_into_its_cells(head: MorphableHead, cast: CgCast) -> None:
    motion = facing(head, 40)
    frame = cast.person(3).render(motion, 128)
    assert frame.coords is not None and frame.valid is not None
    canonical = frame.coords[..., :3] * [16, -16, 16]
    above = frame.valid & (canonical[..., 1] > -6.5)
    y, x = np.nonzero(above)
    camera = motion.pose.project(canonical[above])
    assert len(y) > 500
    assert camera[:, :2] == pytest.approx(np.c_[x + 0.5, y + 0.5] / 32 - 1, abs=1e-4)
    assert camera[:, 2] == pytest.approx(frame.coords[above][:, 3], abs=1e-4)


def test_turning_shows_another_side(head: MorphableHead, cast: CgCast) -> None:
    """+yaw turns the face to image right: the nose moves there."""
    person = cast.person(3)
    nose = head.landmarks68[30]
    left, right = (person.place(facing(head, yaw))[1][nose, 0] for yaw in (-30, 30))
    assert left < -0.05 and right > 0.05


def test_every_frame_shows_a_body_down_to_the_border(head: MorphableHead, cast: CgCast) -> None:
    motion = HeadMotion.about_neck(head.coefficients({}), (0, 0), np.eye(3), scale=0.9, shift=(0, -0.12))
    frame = cast.person(3).render(motion, 64)
    assert frame.matte[-1, 28:36].min() > 250


def test_landmarks_find_the_vertices_they_were_made_of(head: MorphableHead) -> None:
    """A detector that returns known vertices: the correspondence gives those back."""
    truth = np.random.default_rng(0).choice(np.flatnonzero(head.neutral[:6706, 2] > 7), 468)
    cast = CgCast(head)
    placed: list[np.ndarray] = []

    def remember(motion: HeadMotion, number: int) -> None:
        placed.append(cast.person(number).place(motion)[1])

    rng = np.random.default_rng(5)
    people = 8
    for number in range(people):
        for _ in range(3):
            rotation = euler_to_matrix(rng.uniform(-25, 25), rng.uniform(-12, 12), 0)
            remember(HeadMotion.about_neck(head.coefficients({}), (0, 0), rotation), number)
    frames = iter(placed)
    vertices, spread = find_correspondence(head, lambda image: (next(frames)[truth, :2] + 1) * 160, people=people)
    found = vertices >= 0
    distance = np.linalg.norm(head.neutral[vertices[found]] - head.neutral[truth[found]], axis=1)
    assert found.mean() > 0.8
    assert np.quantile(distance, 0.9) < 0.3
    assert spread[found].mean() < 0.3


def test_the_geometric_median_ignores_a_far_point() -> None:
    points = np.concatenate([np.zeros((10, 3)), np.full((3, 3), 100.0)]).astype(np.float32)
    assert np.abs(geometric_median(points)).max() < 0.1
