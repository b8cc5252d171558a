"""Smoothing of crops and poses: a still head stays still, and the filters' effect has known numbers."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.faces.crop import crop_of_pose
from megaportraits.faces.pose import FacePose
from megaportraits.faces.tracking import CropTracker, OneEuroFilter, PoseSmoother
from megaportraits.ops.geometry import Crop, euler_to_matrix, matrix_to_euler

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


def test_on_a_leash_the_same_place_has_the_same_crop_whatever_happened_before() -> None:
    home = crop_of_pose(pose(300))
    poses = [pose(300), pose(320), pose(900, 500, 8.0), pose(250, px_per_cm=5.0), pose(300)]
    crops = run(CropTracker("leash", crop=home), poses)
    assert crops[0] == crops[-1] == home
    assert crops[1] == home  # within reach
    for one, crop in zip(poses, crops, strict=True):
        x, y = one.project([[0, 1, 0]])[0]
        assert np.hypot(x - crop.center_x, y - crop.center_y) <= 0.12 * crop.side + 1e-9
        assert 1 / 1.25 - 1e-9 <= 32 * one.px_per_cm / crop.side <= 1.25 + 1e-9
    unasked = CropTracker("leash")
    assert run(unasked, poses) == crops  # the first head's crop, where none is given


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


def trembling(count: int, seed: int = 3) -> list[FacePose]:
    """A still head with the noise that camera noise of 4 / 255 was measured to cause: 0.15 to 0.25 degrees, 0.6 mm."""
    rng = np.random.default_rng(seed)
    return [
        FacePose(
            euler_to_matrix(*rng.normal((10, -5, 3), (0.15, 0.25, 0.1))),
            6 * float(np.exp(rng.normal(0, 0.002))),
            np.array([300, 200]) + 6 * rng.normal(0, 0.06, 2),
        )
        for _ in range(count)
    ]


def numbers(poses: list[FacePose]) -> np.ndarray:
    """Yaw, pitch, roll in degrees, place and size in pixels (N, 6)."""
    return np.array([(*matrix_to_euler(one.rotation), *one.origin, one.px_per_cm) for one in poses])


def smoothed(poses: list[FacePose], fps: float = FPS) -> list[FacePose]:
    smooth = PoseSmoother()
    return [smooth(one, index / fps) for index, one in enumerate(poses)]


def test_a_still_head_trembles_less_than_half_as_much() -> None:
    raw = trembling(300)
    calm = smoothed(raw)
    assert (numbers(calm)[25:].std(0) < 0.5 * numbers(raw)[25:].std(0)).all()
    np.testing.assert_allclose(numbers(calm)[25:].mean(0), numbers(raw)[25:].mean(0), atol=0.1)


@pytest.mark.parametrize("speed", [10, 30, 60, 120, 240])
def test_the_yaw_of_a_turning_head_lags_less_than_a_frame(speed: float) -> None:
    yaws = np.concatenate([np.full(15, -20.0), np.arange(-20, 20, speed / FPS)])  # it rests, and turns
    seen = numbers(smoothed([pose(yaw=yaw) for yaw in yaws]))[:, 0]
    assert np.abs(yaws - seen).max() < speed / FPS
    assert abs(yaws - seen)[-1] < 0.5 * speed / FPS


def test_a_walking_head_stays_by_less_than_two_millimetres() -> None:
    poses = [pose(300 + 6 * step) for step in range(50)]  # 25 cm / s
    assert abs(numbers(smoothed(poses))[-1, 3] - poses[-1].origin[0]) < 0.2 * 6


def test_smoothing_does_not_depend_on_the_image_size() -> None:
    raw = trembling(40)
    large = [FacePose(one.rotation, 4 * one.px_per_cm, 4 * one.origin) for one in raw]
    np.testing.assert_allclose(numbers(smoothed(large)), numbers(smoothed(raw)) * (1, 1, 1, 4, 4, 4), rtol=1e-9)


def test_after_a_gap_or_a_jump_a_pose_is_as_it_was_measured() -> None:
    first, other = pose(300), pose(304, yaw=2)
    smooth = PoseSmoother()
    assert smooth(first, 0.0).origin[0] == 300
    assert 300 < smooth(other, 0.04).origin[0] < 304
    assert smooth(other, 1.0).origin[0] == pytest.approx(304)  # a gap
    assert smooth(pose(600), 1.04).origin[0] == pytest.approx(600)  # a cut
    assert matrix_to_euler(smooth(pose(600, yaw=40), 1.08).rotation)[0] == pytest.approx(40)
    assert smooth(pose(600, px_per_cm=12), 1.12).px_per_cm == pytest.approx(12)


def test_heads_upside_down_do_not_spin() -> None:
    """Roll of 180 degrees and of -180 is the same: there is nothing to smooth between them."""
    rolls = [179.5, -179.5, 179.8, -179.9]
    calm = smoothed([FacePose(euler_to_matrix(0, 0, roll), 6.0, np.zeros(2)) for roll in rolls])
    assert min(abs(row[2]) for row in numbers(calm)) > 179


def test_times_that_do_not_advance_keep_the_pose() -> None:
    smooth = PoseSmoother()
    first = smooth(pose(300), 1.0)
    assert smooth(pose(301), 1.0).origin[0] == first.origin[0]
