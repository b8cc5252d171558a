"""Random head motion: within limits, with every movement of the face included."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.ops.geometry import HEAD_CENTER, euler_to_matrix, matrix_to_euler
from megaportraits.synth.acting import act
from megaportraits.synth.head import MorphableHead
from megaportraits.synth.sample import CG_RANGE, LIFTED_RANGE, sample_motion, sample_motions
from megaportraits.synth.stage import HeadMotion


@pytest.fixture(scope="module")
def motions(head: MorphableHead) -> list[HeadMotion]:
    rng = np.random.default_rng(0)
    return [motion for _ in range(150) for motion in sample_motions(rng, head, 8)]


def coefficient(head: MorphableHead, motions: list[HeadMotion], name: str) -> np.ndarray:
    return np.array([motion.expression[head.index(name)] for motion in motions])


def test_coefficients_and_gaze_stay_in_range(motions: list[HeadMotion]) -> None:
    expressions = np.array([motion.expression for motion in motions])
    assert expressions.min() >= 0 and expressions.max() <= 1
    assert np.abs([motion.gaze for motion in motions]).max() <= 25


def test_heads_stay_in_the_crop(motions: list[HeadMotion]) -> None:
    centers = np.array([motion.pose.project(np.array([HEAD_CENTER]))[0, :2] for motion in motions])
    assert np.abs(centers).max() < 0.45
    scales = np.array([motion.pose.scale for motion in motions])
    assert 0.9 <= scales.min() < 0.92 and 1.13 < scales.max() <= 1.15


def test_the_head_turns_as_far_as_asked(motions: list[HeadMotion]) -> None:
    # Against the body's in-plane rotation, which turns the picture rather than the head.
    def angles(motion: HeadMotion) -> tuple[float, float, float]:
        tilt = matrix_to_euler(motion.body)[2]
        return matrix_to_euler(euler_to_matrix(0, 0, -tilt) @ motion.pose.rotation)

    yaw, _, _ = np.array([angles(motion) for motion in motions]).T
    assert 20 < np.abs(yaw).max() < 26.5
    assert 9 < yaw.std() < 14
    roll = np.array([matrix_to_euler(motion.pose.rotation)[2] for motion in motions])
    assert 25 < np.abs(roll).max() < 40


def test_cg_heads_turn_further(head: MorphableHead) -> None:
    rng = np.random.default_rng(1)
    yaw = [matrix_to_euler(sample_motion(rng, head, CG_RANGE).pose.rotation)[0] for _ in range(300)]
    assert np.abs(yaw).max() > 40 > LIFTED_RANGE.yaw[1]


def test_a_fifth_to_a_third_of_the_frames_is_calm(head: MorphableHead, motions: list[HeadMotion]) -> None:
    moving = [name for name in head.expression_names if not name.startswith("eyeLook")]
    rows = [head.index(name) for name in moving]
    calm = np.array([motion.expression[rows].max() < 0.15 for motion in motions])
    assert 0.15 < calm.mean() < 0.35
    assert calm.reshape(-1, 8).any(1).mean() > 0.95


def test_everything_a_face_can_do_occurs(head: MorphableHead, motions: list[HeadMotion]) -> None:
    left, right = (coefficient(head, motions, f"eyeBlink_{side}") for side in "LR")
    assert ((left > 0.8) & (right > 0.8)).mean() > 0.08  # closed eyes
    assert ((left > 0.75) & (right < 0.35)).sum() > 5 and ((right > 0.75) & (left < 0.35)).sum() > 5  # winks
    teeth = coefficient(head, motions, "mouthSmile_L") * coefficient(head, motions, "mouthUpperUp_L")
    assert (teeth > 0.1).mean() > 0.05
    lips = coefficient(head, motions, "mouthUpperUp_L") + coefficient(head, motions, "mouthLowerDown_L")
    assert ((lips > 0.8) & (coefficient(head, motions, "jawOpen") < 0.12)).mean() > 0.05  # parted over closed teeth
    for name, above in (("jawOpen", 0.4), ("mouthPucker", 0.4), ("mouthFunnel", 0.4), ("browInnerUp_L", 0.5)):
        assert (coefficient(head, motions, name) > above).mean() > 0.03, name
    for name in ("browDown_R", "eyeWide_L", "mouthLeft", "mouthRight", "cheekPuff_L", "jawLeft", "noseSneer_R"):
        assert (coefficient(head, motions, name) > 0.3).any(), name


def test_the_same_stream_gives_the_same_motions(head: MorphableHead) -> None:
    first, second = (sample_motions(np.random.default_rng(4), head, 3) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.expression, b.expression) and np.array_equal(a.pose.rotation, b.pose.rotation)


def test_the_performance_is_smooth_and_complete(head: MorphableHead) -> None:
    motions = act(head, 4.0, 25)
    assert len(motions) == 100
    angles = np.array([matrix_to_euler(motion.pose.rotation) for motion in motions])
    assert angles[:, 0].min() == pytest.approx(-18, abs=0.5) and angles[:, 0].max() == pytest.approx(18, abs=0.5)
    assert np.abs(np.diff(angles, axis=0)).max() < 3
    expressions = np.array([motion.expression for motion in motions])
    assert np.abs(np.diff(expressions, axis=0)).max() < 0.45
    assert expressions[0].max() < 0.01
    for name, least in (("jawOpen", 0.2), ("mouthSmile_L", 0.6), ("eyeBlink_L", 0.95), ("browInnerUp_R", 0.5)):
        assert coefficient(head, motions, name).max() > least, name
