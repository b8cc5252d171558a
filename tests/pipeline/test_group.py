"""Group photographs: each face follows its own driver, in one image, synchronously."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from megaportraits.errors import ConfigError, FaceError
from megaportraits.media import VideoReader, read_image, write_image
from megaportraits.ops.geometry import HeadPose
from megaportraits.pipeline import AnimateOptions, Avatar, Background, animate_file, plan_output
from megaportraits.pipeline.compose import Rendering
from megaportraits.pipeline.compositor import Compositor
from megaportraits.pipeline.group import animate_group, find_group

from .conftest import moved, write_video

ALL = AnimateOptions(face="all", size=64)


@pytest.fixture(scope="module")
def group(portrait: np.ndarray) -> np.ndarray:
    """The astronaut and her mirror image beside each other, (360, 460, 3)."""
    half = portrait[:360, 110:340]
    return np.ascontiguousarray(np.concatenate([half, half[:, ::-1]], axis=1))


def tinted(portrait: np.ndarray, channel: int, strength: float = 0.5) -> np.ndarray:
    """A driver's frame of which one colour is weak."""
    frame = moved(portrait, 0.0).astype(np.float32)
    frame[..., channel] *= strength
    return np.rint(frame).astype(np.uint8)


def color(image: np.ndarray, where: tuple[slice, slice]) -> np.ndarray:
    """The mean colour of a part of a picture."""
    return image[where].astype(float).mean((0, 1))


def faces_of(avatar: Avatar, group: np.ndarray) -> list[tuple[slice, slice]]:
    """The middles of a group's faces, from left to right."""
    found = sorted(avatar.analyzer.detect(group), key=lambda face: float(face.box[0]))
    middles = [np.rint((face.box[:2] + face.box[2:]) / 2).astype(int) for face in found]
    return [(slice(y - 10, y + 10), slice(x - 10, x + 10)) for x, y in middles]


def test_one_driver_moves_every_face_in_one_picture(avatar: Avatar, group: np.ndarray, portrait: np.ndarray) -> None:
    left, right = faces_of(avatar, group)
    frame = next(avatar.animate(group, tinted(portrait, 0), ALL))
    assert frame.image.shape == group.shape
    for where in (left, right):  # the echo paints its driver, which has half the red
        np.testing.assert_allclose(color(frame.image, where)[0], color(group, where)[0] * 0.5, rtol=0.15)
    assert frame.square.shape == (128, 64, 3) and frame.driver is not None and frame.driver.shape == (128, 64, 3)
    corner = (slice(None, 8), slice(None, 8))
    np.testing.assert_array_equal(frame.image[corner], group[corner])


def test_every_face_takes_its_own_driver(avatar: Avatar, group: np.ndarray, portrait: np.ndarray) -> None:
    left, right = faces_of(avatar, group)
    people = find_group(avatar, group, [tinted(portrait, 0), tinted(portrait, 2)])
    frame = next(animate_group(avatar, people, ALL))
    red, _, blue = color(frame.image, left)
    assert red < 0.7 * color(group, left)[0] and blue > 0.9 * color(group, left)[2]
    red, _, blue = color(frame.image, right)
    assert blue < 0.7 * color(group, right)[2] and red > 0.9 * color(group, right)[0]


def test_drivers_run_in_step_and_the_shorter_one_holds(
    avatar: Avatar, group: np.ndarray, portrait: np.ndarray, tmp_path: Path
) -> None:
    """The first driver has 6 frames at 10 a second, the second 2 at 4 a second, at 0 and 0.25 s."""
    write_image(tmp_path / "group.png", group)
    lead = write_video(tmp_path / "lead.mp4", [tinted(portrait, 2)] * 6, fps=10)
    other = write_video(tmp_path / "other.mp4", [tinted(portrait, 0, 1.0), tinted(portrait, 0, 0.3)], fps=4)
    report = animate_file(avatar, tmp_path / "group.png", [lead, other], tmp_path / "out.mp4", ALL)
    assert (report.frames, report.faces, report.face, report.held) == (6, 2, "all", 0)
    assert "--face N" not in " ".join(report.lines())
    frames = list(VideoReader(tmp_path / "out.mp4"))
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(n, 10) for n in range(6)]
    right = faces_of(avatar, group)[1]
    bright = [color(frame.image, right)[0] > 0.65 * color(group, right)[0] for frame in frames]
    assert bright == [True] * 3 + [False] * 3


def test_one_file_named_twice_is_followed_once(
    avatar: Avatar, group: np.ndarray, portrait: np.ndarray, tmp_path: Path
) -> None:
    clip = write_video(tmp_path / "clip.mp4", [moved(portrait, 0.0)] * 2)
    people = find_group(avatar, group, [clip, str(clip)])
    assert people.driver_of == (0, 0) and len(people.drivers) == 1


def test_a_driver_without_a_face_is_named(
    avatar: Avatar, group: np.ndarray, portrait: np.ndarray, tmp_path: Path
) -> None:
    empty = write_video(tmp_path / "empty.mp4", [np.zeros((64, 64, 3), np.uint8)] * 2)
    clip = write_video(tmp_path / "clip.mp4", [moved(portrait, 0.0)] * 2)
    people = find_group(avatar, group, [clip, empty])
    with pytest.raises(FaceError, match=r"empty\.mp4"):
        list(animate_group(avatar, people, ALL))


def test_what_does_not_fit_is_refused(avatar: Avatar, group: np.ndarray, portrait: np.ndarray, tmp_path: Path) -> None:
    photo = write_image(tmp_path / "group.png", group)
    with pytest.raises(FaceError, match="2 for the 2 faces of the source, got 3"):
        find_group(avatar, group, [portrait] * 3)
    with pytest.raises(ConfigError, match="one driver for one face, got 2"):
        plan_output(photo, [photo, photo], None, AnimateOptions(face=1))
    with pytest.raises(ConfigError, match="all of them"):
        avatar.encode(group, face="all")
    for changes in ({"crop": True}, {"background": Background.TRANSPARENT}):
        with pytest.raises(ConfigError, match="all faces go back"):
            AnimateOptions(face="all", **changes)


def test_side_by_side_has_a_row_for_every_face(
    avatar: Avatar, group: np.ndarray, portrait: np.ndarray, tmp_path: Path
) -> None:
    photo = write_image(tmp_path / "group.png", group)
    driver = write_image(tmp_path / "driver.png", tinted(portrait, 0))
    animate_file(avatar, photo, driver, tmp_path / "out.png", ALL, side_by_side=tmp_path / "row.png")
    rows = read_image(tmp_path / "row.png")
    assert rows.shape == (128, 192, 3)
    upper, lower = rows[:64, :64].astype(int), rows[64:, :64].astype(int)
    assert np.abs(upper - lower[:, ::-1]).mean() < 8 < np.abs(upper - lower).mean()  # she and her mirror image


def test_a_head_that_was_drawn_stays_where_another_person_leaves(avatar: Avatar, portrait: np.ndarray) -> None:
    """A driven head that is nowhere opaque: the person is gone, but what has been drawn over the place is not."""
    source = avatar.encode(portrait)
    pose = HeadPose(np.eye(3), np.zeros(2), 1.0)
    compositor = Compositor(source, AnimateOptions(), avatar.matting, pose, size=64)
    nothing = Rendering(np.zeros((64, 64, 4), np.float32), pose)
    face = np.rint(source.head.face.landmarks[4, :2]).astype(int)  # the tip of the nose
    black = np.zeros_like(compositor.photo)
    gone = compositor.paste(black, nothing, np.zeros(black.shape[:2], np.float32))
    kept = compositor.paste(black, nothing, np.ones(black.shape[:2], np.float32))
    assert (kept[face[1], face[0]] <= 5).all()
    assert (gone[face[1], face[0]] > 100).all()  # what stands behind her is bright


def test_drawn_heads_are_noted_where_they_are_opaque(avatar: Avatar, portrait: np.ndarray) -> None:
    source = avatar.encode(portrait)
    pose = HeadPose(np.eye(3), np.zeros(2), 1.0)
    compositor = Compositor(source, AnimateOptions(), avatar.matting, pose, size=64)
    half = np.zeros((64, 64, 4), np.float32)
    half[:, 32:] = 1
    drawn = np.zeros(compositor.photo.shape[:2], np.float32)
    compositor.paste(compositor.photo, Rendering(half, pose), drawn)
    crop = source.head.crop
    row, step = round(crop.center_y), round(crop.side / 8)
    assert drawn[row, round(crop.center_x) + step] > 0.99 and drawn[row, round(crop.center_x) - step] < 0.01
    assert cv2.countNonZero(drawn[:5]) == 0
