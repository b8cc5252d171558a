"""Calm crops: a still head gives a still crop, and what the filters do is known in numbers."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.errors import FaceError
from megaportraits.faces.crop import Crop, crop_of_pose
from megaportraits.faces.pose import FacePose
from megaportraits.faces.tracking import CropTracker, LandmarkSmoother, OneEuroFilter, fixed_crop
from megaportraits.ops.geometry import euler_to_matrix

FPS = 25.0


def pose(x: float = 300, y: float = 200, px_per_cm: float = 6.0, yaw: float = 0.0) -> FacePose:
    return FacePose(euler_to_matrix(yaw, 0, 0), px_per_cm, np.array([x, y]))


def run(tracker: CropTracker, poses: list[FacePose]) -> list[Crop]:
    return [tracker.update(one, index / FPS) for index, one in enumerate(poses)]


def test_a_still_head_gives_a_still_crop() -> None:
    """Landmark noise of 1.5 px and of 1 % in size, and small turns of the head, move the crop not at all."""
    rng = np.random.default_rng(0)
    poses = [
        pose(300 + rng.normal(0, 1.5), 200 + rng.normal(0, 1.5), 6 * (1 + rng.normal(0, 0.01)), rng.normal(0, 6))
        for _ in range(200)
    ]
    assert len(set(run(CropTracker("follow"), poses))) == 1


def test_a_walking_head_is_followed_within_reach() -> None:
    poses = [pose(300 + 5 * step) for step in range(120)]
    crops = run(CropTracker("follow"), poses)
    offsets = [abs(one.project([[0, 1, 0]])[0, 0] - c.center_x) / c.side for one, c in zip(poses, crops, strict=True)]
    assert max(offsets) <= 0.12 + 1e-9
    steps = np.diff([c.center_x for c in crops])
    assert steps.min() >= 0 and steps.max() < 5.5


def test_a_jump_is_caught_at_once() -> None:
    crops = run(CropTracker("follow"), [pose(300), pose(700)])
    assert (700 - crops[1].center_x) / crops[1].side == pytest.approx(0.12)


def test_zooming_in_changes_the_side_softly() -> None:
    poses = [pose(px_per_cm=6.0)] * 5 + [pose(px_per_cm=9.0)] * 100
    sides = np.array([c.side for c in run(CropTracker("follow"), poses)])
    assert (np.diff(sides) >= 0).all()
    assert sides[-1] == pytest.approx(9 * 32 / 1.08, rel=0.01)
    assert (np.diff(sides) / sides[:-1]).max() < 0.06


def test_the_fixed_mode_never_moves() -> None:
    poses = [pose(300 + 40 * step, px_per_cm=6 + step) for step in range(5)]
    assert set(run(CropTracker("fixed"), poses)) == {crop_of_pose(poses[0])}
    given = Crop(1, 2, 3)
    assert set(run(CropTracker("fixed", crop=given), poses)) == {given}


def test_tracking_is_causal() -> None:
    poses = [pose(300 + 9 * step) for step in range(20)]
    assert run(CropTracker("follow"), poses)[:10] == run(CropTracker("follow"), poses[:10])


def test_times_that_do_not_advance_do_no_harm() -> None:
    tracker = CropTracker("follow")
    first = tracker.update(pose(300), 1.0)
    assert tracker.update(pose(305), 1.0) == first
    assert tracker.update(pose(305), 0.5) == first


def test_the_fixed_crop_is_the_median() -> None:
    crop = fixed_crop([pose(300), pose(310), pose(900)])
    assert crop == crop_of_pose(pose(310))
    with pytest.raises(FaceError):
        fixed_crop([])


def test_the_one_euro_filter_is_the_papers() -> None:
    """The first two steps by hand: alpha = 1 / (1 + tau / T), tau = 1 / (2 pi f_c)."""
    smooth = OneEuroFilter(min_cutoff=1.0, beta=0.5, derivative_cutoff=1.0)
    assert smooth(2.0, 0.0) == 2.0
    elapsed = 0.1
    gain = 1 / (1 + 1 / (2 * np.pi * 1.0) / elapsed)
    cutoff = 1.0 + 0.5 * gain * (5.0 - 2.0) / elapsed
    want = 2.0 + 1 / (1 + 1 / (2 * np.pi * cutoff) / elapsed) * 3.0
    assert smooth(5.0, elapsed) == pytest.approx(want)


def test_the_one_euro_filter_calms_noise_and_keeps_up_with_motion() -> None:
    rng = np.random.default_rng(1)
    times = np.arange(400) / FPS
    noise = rng.normal(0, 0.02, 400)
    smooth = OneEuroFilter(min_cutoff=1.0, beta=1.0)
    rest = np.array([float(smooth(value, time)) for value, time in zip(noise, times, strict=True)])
    assert rest[50:].std() < 0.5 * noise.std()
    smooth = OneEuroFilter(min_cutoff=1.0, beta=1.0)
    moving = [float(smooth(10 * time, time)) for time in times]
    assert 10 * times[-1] - moving[-1] < 0.25


def test_landmark_smoothing_does_not_depend_on_the_image_size() -> None:
    rng = np.random.default_rng(2)
    frames = rng.normal(0, 0.3, (20, 478, 3)).cumsum(0) + 100
    small, large = LandmarkSmoother(), LandmarkSmoother()
    for index, frame in enumerate(frames):
        a = small(frame, 5.0, index / FPS)
        b = large(frame * 4, 20.0, index / FPS)
    np.testing.assert_allclose(b, a * 4, rtol=1e-4)
