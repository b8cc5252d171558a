"""Lifted photographs: the rest pose shows the photograph, labels are exact, unusable photographs are refused."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from megaportraits.errors import FaceError, ShapeError
from megaportraits.ops.geometry import HEAD_CENTER, HeadPose, euler_to_matrix
from megaportraits.synth import shade
from megaportraits.synth.appearance import is_grey, project_teeth
from megaportraits.synth.cg import CgCast
from megaportraits.synth.head import REGIONS, MorphableHead, eyeball_center
from megaportraits.synth.lift import Lifter
from megaportraits.synth.lifted import LiftedHead
from megaportraits.synth.portraits import MattedPortrait
from megaportraits.synth.stage import HeadMotion

SIZE = 300
SCALE = 0.8  # the toy photograph is 40 cm wide


def toy_portrait(head: MorphableHead, number: int = 1, yaw: float = 4.0, *, grey: bool = False) -> MattedPortrait:
    """A "photograph" of a CG toy person with textured clothes, its landmarks and its matte."""
    person = CgCast(head).person(number)
    motion = HeadMotion.about_neck(head.coefficients({}), (0, 0), euler_to_matrix(yaw, -3, 2), scale=SCALE)
    frame = person.render(motion, SIZE, coords=False)
    points = (frame.placed[head.mediapipe_vertex, :2] + 1) * (SIZE / 2)
    mesh, _ = person.place(motion)
    irises = []
    for eye in ("eye_R", "eye_L"):
        center = eyeball_center(mesh, eye) + np.array([0, 0, 1.577])
        middle = (motion.pose.project(center[None])[0, :2] + 1) * (SIZE / 2)
        irises.append(middle + np.array([[0, 0], [4, 0], [0, -4], [-4, 0], [0, 4]]))
    landmarks = np.concatenate([points, *irises])
    image = frame.image
    if grey:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    landmarks = np.c_[landmarks, np.zeros(478)].astype(np.float32)
    return MattedPortrait(image, landmarks, frame.matte.astype(np.float32) / 255)


@pytest.fixture(scope="module")
def lifter(head: MorphableHead) -> Lifter:
    return Lifter(head)


@pytest.fixture(scope="module")
def lifted(head: MorphableHead, lifter: Lifter) -> LiftedHead:
    portrait = toy_portrait(head)
    return lifter.lift(portrait.image, portrait.landmarks, portrait.matte, "toy")


def rest(person: LiftedHead) -> HeadMotion:
    return HeadMotion.about_neck(person.rest_expression, (0, 0), person.rest_rotation, scale=SCALE)


def moved(head: MorphableHead) -> HeadMotion:
    weights = {"jawOpen": 0.4, "mouthSmile_L": 0.6, "browInnerUp_L": 0.8}
    return HeadMotion.about_neck(head.coefficients(weights), (10, 5), euler_to_matrix(15, 6, -8), shift=(0.05, 0.02))


def test_at_rest_it_is_the_photograph(head: MorphableHead, lifted: LiftedHead) -> None:
    portrait = toy_portrait(head)
    frame = lifted.render(rest(lifted), SIZE, supersample=1)
    # The fit finds scale and place up to a little; bring the render onto the photograph before comparing.
    place = (frame.placed[head.mediapipe_vertex, :2] + 1) * (SIZE / 2)
    matrix, _ = cv2.estimateAffinePartial2D(place, np.ascontiguousarray(portrait.landmarks[:468, :2]))
    aligned = cv2.warpAffine(frame.image, matrix, (SIZE, SIZE))
    skin = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(skin, cv2.convexHull(portrait.landmarks[:468, :2].astype(np.int32)), 1)
    difference = np.abs(aligned.astype(int) - portrait.image)[skin > 0]
    assert np.median(difference) <= 3
    assert difference.mean() < 10


def test_its_matte_is_that_of_the_photograph(head: MorphableHead, lifted: LiftedHead) -> None:
    frame = lifted.render(rest(lifted), 128)
    assert frame.matte.mean() / 255 == pytest.approx(toy_portrait(head).matte.mean(), rel=0.06)


def test_head_vertices_appear_where_the_label_says(head: MorphableHead, lifted: LiftedHead) -> None:
    motion = moved(head)
    mesh, placed = lifted.place(motion)
    above = lifted.base[:, 1] > -6
    assert placed[: len(mesh)][above] == pytest.approx(motion.pose.project(mesh[above]), abs=1e-4)


def test_the_map_carried_by_expression_and_pose_meets_its_cell(head: MorphableHead, lifted: LiftedHead) -> None:
    """Each cell's canonical point, found again on the mesh, expressed and posed, projects into the cell."""
    motion = moved(head)
    frame = lifted.render(motion, 128)
    assert frame.coords is not None and frame.valid is not None
    y, x = np.nonzero(frame.valid)
    canonical = frame.coords[y, x, :3] * [16, -16, 16]
    mesh, _ = lifted.place(motion)
    face = lifted.triangles[lifted.kinds == shade.PHOTO]
    errors = []
    for point, depth, cell in zip(canonical, frame.coords[y, x, 3], np.c_[x, y], strict=True):
        weights, triangle = _locate(lifted.base, face, point)
        if triangle is None or lifted.base[triangle, 1].min() < -6:
            continue
        camera = motion.pose.project((weights @ mesh[triangle])[None])[0]
        errors.append(np.abs([*(camera[:2] - ((cell + 0.5) / 32 - 1)), camera[2] - depth]).max())
    assert len(errors) > 500
    # The few others are eyeballs, which the gaze has turned, where they touch the toy's skin.
    assert np.quantile(errors, 0.98) < 1e-3


def _locate(base: np.ndarray, triangles: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Barycentric weights and corners of the triangle of a mesh on which a point lies, or None."""
    near = triangles[np.linalg.norm(base[triangles].mean(1) - point, axis=1) < 0.8]
    for triangle in near:
        corners = base[triangle].astype(np.float64)
        weights, *_ = np.linalg.lstsq(np.r_[corners.T, np.ones((1, 3))], np.r_[point, 1], rcond=None)
        if weights.min() > -1e-3 and np.linalg.norm(weights @ corners - point) < 2e-3:
            return weights, triangle
    return np.empty(0), None


def test_the_map_does_not_depend_on_the_expression_of_the_photograph(lifted: LiftedHead) -> None:
    assert lifted.canonical[: len(lifted.base)] == pytest.approx(lifted.base)
    still = lifted.sheet.follow(lifted.base)
    assert lifted.canonical[len(lifted.base) :] == pytest.approx(still)


def test_the_sheet_follows_the_jaw_only_nearby(head: MorphableHead, lifted: LiftedHead) -> None:
    opened = head.express(lifted.base, head.coefficients({"jawOpen": 1.0}))
    moved_by = np.linalg.norm(lifted.sheet.follow(opened) - lifted.sheet.follow(lifted.base), axis=1)
    far = lifted.sheet.rest[:, 1] > 10
    assert moved_by.max() > 1
    assert moved_by[far].max() < 0.05


def test_frames_are_the_same_every_time(head: MorphableHead, lifted: LiftedHead) -> None:
    first, second = (lifted.render(moved(head), 64) for _ in range(2))
    assert np.array_equal(first.image, second.image) and np.array_equal(first.matte, second.matte)


def test_a_grey_photograph_stays_grey(head: MorphableHead, lifter: Lifter) -> None:
    portrait = toy_portrait(head, grey=True)
    person = lifter.lift(portrait.image, portrait.landmarks, portrait.matte)
    assert person.grey
    frame = person.render(moved(head), 128)
    chroma = np.ptp(frame.image.astype(int), axis=2)[frame.matte > 250]
    assert chroma.max() <= 6


def test_colour_and_grey_photographs_are_distinguished(head: MorphableHead) -> None:
    assert not is_grey(toy_portrait(head).image)
    assert is_grey(toy_portrait(head, grey=True).image)


def test_a_matte_with_doubts_is_refused(head: MorphableHead, lifter: Lifter) -> None:
    portrait = toy_portrait(head)
    with pytest.raises(FaceError, match="bad matte"):
        lifter.lift(portrait.image, portrait.landmarks, portrait.matte * 0.5)
    with pytest.raises(FaceError, match="bad matte"):
        lifter.lift(portrait.image, portrait.landmarks, np.zeros_like(portrait.matte))


def test_a_face_turned_away_is_refused(head: MorphableHead, lifter: Lifter) -> None:
    portrait = toy_portrait(head, yaw=30)
    with pytest.raises(FaceError, match=r"turned away|bad fit"):
        lifter.lift(portrait.image, portrait.landmarks, portrait.matte)


def test_landmarks_of_no_head_are_refused(head: MorphableHead, lifter: Lifter) -> None:
    portrait = toy_portrait(head)
    shuffled = np.random.default_rng(0).permutation(portrait.landmarks)
    with pytest.raises(FaceError, match="bad fit"):
        lifter.lift(portrait.image, shuffled, portrait.matte)


def test_a_cut_off_head_is_refused(head: MorphableHead, lifter: Lifter) -> None:
    portrait = toy_portrait(head)
    top = int(portrait.landmarks[:468, 1].min()) - 5
    shifted = portrait.landmarks - [0, top, 0]
    with pytest.raises(FaceError, match="cut off"):
        lifter.lift(portrait.image[top:], shifted, portrait.matte[top:])


def test_a_matte_of_another_size_is_refused(head: MorphableHead, lifter: Lifter) -> None:
    portrait = toy_portrait(head)
    with pytest.raises(ShapeError, match="matte"):
        lifter.lift(portrait.image, portrait.landmarks, portrait.matte[1:])


def test_teeth_take_the_colours_of_an_open_smile(head: MorphableHead, lifted: LiftedHead) -> None:
    """A mouth full of a known ivory: visible teeth become ivory, hidden ones its mean, gums stay."""
    size = 352
    camera = np.zeros((len(head.neutral), 3), np.float32)
    camera[:, 0], camera[:, 1] = 176 + 8 * head.neutral[:, 0], 176 - 8 * (head.neutral[:, 1] - 1)
    landmarks = np.zeros((478, 2), np.float32)
    ring = np.linspace(np.pi, -np.pi, 20, endpoint=False)
    inner = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
    landmarks[list(inner)] = np.c_[176 + 16 * np.cos(ring), 176 + 8 * 5.2 - 6 * np.sin(ring)]
    ivory = np.array([230, 220, 190], np.uint8)
    rgb = np.full((size, size, 3), ivory)
    paint = replace(lifted.paint, vertex=lifted.paint.vertex.copy())
    project_teeth(paint, rgb, landmarks, camera, np.ones(len(head.neutral), np.float32))
    assert paint.vertex[REGIONS["teeth"]] == pytest.approx(np.tile(ivory / 255, (4412, 1)), abs=1e-3)
    assert np.array_equal(paint.vertex[REGIONS["gums"]], lifted.paint.vertex[REGIONS["gums"]])


def test_labels_are_a_head_pose(lifted: LiftedHead) -> None:
    assert isinstance(rest(lifted).pose, HeadPose)


def test_the_photograph_is_a_frame_of_its_own_rest_motion(head: MorphableHead, lifter: Lifter) -> None:
    """Geometry of the fit, pixels of the photograph: eyes are not modelled, and the face lies where it is rendered."""
    portrait = toy_portrait(head)
    person = lifter.lift(portrait.image, portrait.landmarks, portrait.matte)
    frame, modelled = person.photograph(128), person.render(person.rest, 128)
    assert frame.coords is not None and modelled.coords is not None
    assert np.array_equal(frame.coords, modelled.coords)
    center = person.rest.pose.project(np.array([HEAD_CENTER]))[0, :2]
    np.testing.assert_allclose(center, 0, atol=1e-9)
    inside = (frame.matte > 250) & (modelled.matte > 250)
    difference = np.abs(frame.image.astype(int) - modelled.image).mean(2)
    assert np.median(difference[inside]) < 4
    assert np.median(np.abs(frame.image.astype(int) - np.roll(modelled.image, 6, 1)).mean(2)[inside]) > 8
