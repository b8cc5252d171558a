"""Drivers: reading them twice, following one head, finding the neutral frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from megaportraits.errors import FaceError, MediaError, ShapeError
from megaportraits.faces.canonical import canonical_mesh
from megaportraits.faces.detector import Face, FaceAnalyzer
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.faces.pose import fit_pose
from megaportraits.media import Limits, VideoFrame
from megaportraits.ops.geometry import euler_to_matrix, matrix_to_euler
from megaportraits.pipeline.driver import FrameSource, HeadFollower, distance_from_neutral, find_neutral

from .conftest import moved, write_video


def test_seconds_bound_the_frames(tmp_path: Path) -> None:
    frames = [np.full((32, 32, 3), i, np.uint8) for i in range(20)]
    source = FrameSource(write_video(tmp_path / "a.mp4", frames, fps=10))
    assert len(list(source.frames())) == source.count() == 20
    assert len(list(source.frames(0.5))) == source.count(0.5) == 5
    assert source.fps == 10
    assert not source.still


def test_a_picture_is_taken_at_a_share_of_the_length(tmp_path: Path) -> None:
    frames = [np.full((32, 32, 3), 12 * i, np.uint8) for i in range(20)]
    video = FrameSource(write_video(tmp_path / "a.mp4", frames, fps=10))
    for source in (video, FrameSource(frames, fps=10)):
        shown = [float(source.picture(*where).mean()) for where in ((0.0,), (0.5,), (0.75,), (0.5, 0.8))]
        assert shown == pytest.approx([0, 120, 180, 48], abs=3)
    assert video.picture(1.0).shape == (32, 32, 3)  # nothing there: the first


def test_one_picture_is_a_still_driver(portrait: np.ndarray) -> None:
    assert FrameSource(portrait).still
    assert not FrameSource([portrait, portrait]).still


def test_pil_images_and_stacks_of_frames_are_drivers() -> None:
    frames = [np.full((8, 10, 3), 20 * i, np.uint8) for i in range(3)]
    for driver in (frames, tuple(frames), np.stack(frames), [Image.fromarray(frame) for frame in frames]):
        source = FrameSource(driver)
        assert not source.still
        assert all(np.array_equal(seen.image, frame) for seen, frame in zip(source.frames(), frames, strict=True))
    assert FrameSource(Image.fromarray(frames[1]).convert("RGBA")).still


@pytest.mark.parametrize("driver", [None, 3, [], [None], np.zeros((8, 8), np.uint8), np.zeros((2, 8, 8, 4), np.uint8)])
def test_an_object_that_is_no_driver_is_refused_with_the_accepted_types(driver: object) -> None:
    with pytest.raises(ShapeError, match="driver: expected a file"):
        FrameSource(driver)  # type: ignore[arg-type]


def test_limits_hold_for_drivers(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [np.zeros((32, 32, 3), np.uint8)] * 5, fps=10)
    with pytest.raises(MediaError, match="at most 4 frames"):
        FrameSource(path, limits=Limits(frames=4))
    assert FrameSource(path, limits=Limits(frames=5)).picture(0.5).shape == (32, 32, 3)


def test_missing_driver_is_said() -> None:
    with pytest.raises(MediaError, match="no such file"):
        FrameSource("nothing.mp4")


def test_a_still_head_gives_still_crops_and_a_lost_one_none(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    view = moved(portrait, 0)
    follower = HeadFollower(analyzer, 48)
    images = [view, view, np.zeros_like(view), view]
    heads = [follower.look(VideoFrame(image, i, Fraction(1, 25))).head for i, image in enumerate(images)]
    assert heads[2] is None
    assert heads[0] is not None and heads[1] is not None and heads[3] is not None
    assert heads[0].image.shape == (48, 48, 3)
    assert heads[0].crop == heads[1].crop
    assert heads[0].crop.center_x == pytest.approx(heads[3].crop.center_x, abs=2)


def test_the_largest_face_is_followed(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    head = HeadFollower(analyzer, 48).look(VideoFrame(pair(portrait), 0, Fraction(1, 25))).head
    assert head is not None
    assert head.crop.center_x > 144


def pair(portrait: np.ndarray) -> np.ndarray:
    """A small face on the left, the same person's large one on the right of x = 144."""
    large = moved(portrait, 0)
    both = np.full((192, 400, 3), 90, np.uint8)
    both[:96, :128], both[:, 144:] = large[::2, ::2], large
    return both


def test_faces_of_the_driver_are_counted_from_left_to_right(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    both, alone = pair(portrait), pair(portrait)
    alone[:, 144:] = 90
    for number, left in ((1, True), (2, False)):
        follower = HeadFollower(analyzer, 48, face=number)
        heads = [follower.look(VideoFrame(image, i, Fraction(1, 25))).head for i, image in enumerate((both, both))]
        neutral = find_neutral(FrameSource([both, both]), analyzer, 48, face=number)
        assert [head is not None and (head.crop.center_x < 144) for head in (*heads, neutral)] == [left] * 3
    # The second face is waited for while there is one only, and missed where it never comes.
    follower = HeadFollower(analyzer, 48, face=2)
    heads = [follower.look(VideoFrame(image, i, Fraction(1, 25))).head for i, image in enumerate((alone, both))]
    assert heads[0] is None and heads[1] is not None and heads[1].crop.center_x > 144
    with pytest.raises(FaceError, match="at least 3 faces in the driver, found at most 2"):
        find_neutral(FrameSource([both, alone]), analyzer, 48, face=3)


def test_a_still_head_before_a_noisy_camera_stays_still(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    view = portrait[:300, 80:380].astype(np.float64)
    follower = HeadFollower(analyzer, 48)
    raw, calm = [], []
    for index in range(50):
        image = np.clip(view + rng.normal(0, 4, view.shape), 0, 255).astype(np.uint8)
        head = follower.look(VideoFrame(image, index, Fraction(1, 25))).head
        assert head is not None
        measured = fit_pose(head.face.landmarks)
        for found, where in ((measured, raw), (head.pose, calm)):
            where.append((*matrix_to_euler(found.rotation), *found.origin))
    assert (np.std(calm[10:], axis=0) < 0.5 * np.std(raw[10:], axis=0)).all()
    np.testing.assert_allclose(calm[0], raw[0])  # one picture alone is taken as it is measured


def test_a_head_that_returns_to_the_neutral_place_returns_to_its_crop(
    analyzer: FaceAnalyzer, portrait: np.ndarray
) -> None:
    shifts = [*range(0, 60, 6), *range(60, -1, -6)]
    frames = [moved(portrait, shift) for shift in shifts]
    neutral = find_neutral(FrameSource(frames[:1]), analyzer, 48)
    follower = HeadFollower(analyzer, 48, rest=neutral.crop)
    heads = [follower.look(VideoFrame(image, i, Fraction(1, 25))).head for i, image in enumerate(frames)]
    assert heads[10] is not None and heads[10].crop.center_x > neutral.crop.center_x + 20  # it followed
    assert heads[0] is not None and heads[-1] is not None
    assert heads[0].crop == heads[-1].crop == neutral.crop
    rest, back = neutral.pose.to_crop_pose(neutral.crop), heads[-1].pose.to_crop_pose(heads[-1].crop)
    np.testing.assert_allclose(back.translation, rest.translation, atol=0.02)
    assert back.scale == pytest.approx(rest.scale, rel=0.02)
    later = HeadFollower(analyzer, 48)
    for index, image in enumerate(frames[:11]):
        later.look(VideoFrame(image, index, Fraction(1, 25)))
    later.keep_near(neutral.crop)
    head = later.look(VideoFrame(frames[0], 12, Fraction(1, 25))).head
    assert head is not None and head.crop == neutral.crop


def test_the_upright_frame_is_the_neutral_one(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    frames = [np.zeros((192, 256, 3), np.uint8), moved(portrait, 0, 30), moved(portrait, 20), moved(portrait, 0, -25)]
    neutral = find_neutral(FrameSource(frames), analyzer, 48)
    assert neutral.crop.center_x > 140  # the frame that is shifted by 20 px
    assert distance_from_neutral(neutral.face) < 3  # she smiles


def test_a_driver_without_a_face_has_no_neutral_frame(analyzer: FaceAnalyzer) -> None:
    with pytest.raises(FaceError, match="found none"):
        find_neutral(FrameSource([np.zeros((64, 64, 3), np.uint8)] * 3), analyzer, 48)


def test_a_driver_that_lies_on_its_side_is_turned_as_a_whole(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    upright = [moved(portrait, shift) for shift in (0.0, 4.0)]
    source = FrameSource([np.ascontiguousarray(np.rot90(image)) for image in upright])
    source.turn_upright(analyzer)
    assert source.turns == 3
    for frame, image in zip(source.frames(), upright, strict=True):
        np.testing.assert_array_equal(frame.image, image)
    np.testing.assert_array_equal(source.picture(0.9), upright[1])


def test_a_driver_whose_head_is_tilted_is_not_turned(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    source = FrameSource([moved(portrait, 0.0, roll=35)])
    source.turn_upright(analyzer)
    assert source.turns == 0


def neutral_face(yaw: float = 0.0, **blendshapes: float) -> Face:
    """The canonical face, turned, with these blendshapes."""
    points = canonical_mesh().vertices @ euler_to_matrix(yaw, 0, 0).T * (10, -10, -10) + 200  # image axes, pixels
    values = np.zeros(len(BLENDSHAPE_NAMES), np.float32)
    for name, value in blendshapes.items():
        values[BLENDSHAPE_NAMES.index(name)] = value
    return Face(np.zeros(4, np.float32), points.astype(np.float32), 1.0, values)


@pytest.mark.parametrize(
    ("face", "distance"),
    [
        ({}, 0.0),
        ({"mouthPucker": 0.5}, 0.5),
        ({"mouthSmileLeft": 0.5, "mouthSmileRight": 0.3}, 0.4),
        ({"jawOpen": 0.5}, 1.0),
        ({"eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.5}, 1.0),
        ({"yaw": 25.0}, 1.0),
        ({"yaw": -12.5, "jawOpen": 0.5}, 1.5),
    ],
)
def test_open_jaws_and_closed_eyes_make_a_frame_twice_as_far_from_neutral(
    face: dict[str, float], distance: float
) -> None:
    assert distance_from_neutral(neutral_face(**face)) == pytest.approx(distance, abs=0.01)
