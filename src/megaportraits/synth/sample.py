"""Sample motions of synthetic heads: expressions, gaze, poses, and the motions of one clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.synth.head import EYE_LIMIT, MorphableHead
from megaportraits.synth.stage import HeadMotion

Rng = np.random.Generator
Weights = dict[str, float]


@dataclass(frozen=True)
class MotionRange:
    """Ranges of head motion; angles in degrees, shift in crop units.

    Attributes:
        yaw: standard deviation and limit.
        pitch: standard deviation and limit.
        roll: standard deviation and limit, of the head against the body.
        tilt_share: share of frames with an in-plane rotation of head and body; real videos reach 33 degrees of roll.
        tilt_limit: of that rotation.
        body: standard deviation and limit of the body's own small yaw and roll.
        shift: limit.
        scale: least and greatest.
        neutral_share: share of frames with a nearly neutral face.
    """

    yaw: tuple[float, float] = (13.0, 25.0)
    pitch: tuple[float, float] = (6.0, 14.0)
    roll: tuple[float, float] = (6.0, 18.0)
    tilt_share: float = 0.25
    tilt_limit: float = 20.0
    body: tuple[float, float] = (2.0, 5.0)
    shift: float = 0.12
    scale: tuple[float, float] = (0.9, 1.15)
    neutral_share: float = 0.2


LIFTED_RANGE = MotionRange()
"""Beyond 25 degrees of yaw the far cheek of a lifted photograph stretches."""
CG_RANGE = MotionRange(yaw=(20.0, 45.0), pitch=(8.0, 20.0), roll=(8.0, 20.0))


SPEECH_SHARE = 0.35
"""Share of moving faces whose lips part over closed teeth: an open jaw alone shows hardly any teeth."""


def sample_motions(rng: Rng, head: MorphableHead, frames: int, limits: MotionRange = LIFTED_RANGE) -> list[HeadMotion]:
    """Independent motions for the frames of a clip, in no temporal order.

    At least one frame is nearly neutral and one has a strong expression.
    """
    neutral = rng.random(frames) < limits.neutral_share
    if frames > 1:
        first, second = rng.permutation(frames)[:2]
        neutral[first], neutral[second] = True, False
    return [sample_motion(rng, head, limits, neutral=bool(calm)) for calm in neutral]


def sample_motion(rng: Rng, head: MorphableHead, limits: MotionRange, *, neutral: bool = False) -> HeadMotion:
    """One motion; see `MotionRange`."""
    gaze = sample_gaze(rng)
    weights = sample_calm(rng) if neutral else sample_expression(rng)
    for name, value in head.lid_coupling(gaze).items():
        weights[name] = max(value, weights.get(name, 0.0))
    yaw, pitch, roll = (_clipped_normal(rng, *spread) for spread in (limits.yaw, limits.pitch, limits.roll))
    tilt = rng.uniform(-1, 1) * limits.tilt_limit if rng.random() < limits.tilt_share else 0.0
    body = euler_to_matrix(_clipped_normal(rng, *limits.body), 0, tilt + _clipped_normal(rng, *limits.body))
    return HeadMotion.about_neck(
        head.coefficients(weights),
        gaze,
        euler_to_matrix(0, 0, tilt) @ euler_to_matrix(yaw, pitch, roll),
        scale=float(np.exp(rng.uniform(*np.log(limits.scale)))),
        shift=rng.uniform(-limits.shift, limits.shift, 2),
        body=body,
    )


def sample_gaze(rng: Rng) -> np.ndarray:
    """(2,) yaw and pitch in degrees: wide in yaw, and often near the camera."""
    spread = (11.0, 6.0) if rng.random() < 0.75 else (3.0, 2.0)
    return np.clip(rng.normal(size=2) * spread, -EYE_LIMIT, EYE_LIMIT)


def sample_calm(rng: Rng) -> Weights:
    """A nearly neutral face, as in a passport photograph."""
    weights: Weights = {}
    if rng.random() < 0.5:
        weights["jawOpen"] = 0.08 * float(rng.random())
    for name in rng.choice(["mouthSmile", "browInnerUp", "browDown", "eyeSquint", "mouthPress"], 2, replace=False):
        _both(rng, weights, str(name), 0.12 * float(rng.random()))
    return weights


def sample_expression(rng: Rng) -> Weights:
    """A moving face: mouth, eyes and brows are sampled independently, left and right mostly equal."""
    weights: Weights = {}
    _mouth(rng, weights)
    _eyes(rng, weights)
    _brows(rng, weights)
    return weights


def _mouth(rng: Rng, weights: Weights) -> None:
    if rng.random() < SPEECH_SHARE:
        _speech(rng, weights)
        return
    if rng.random() < 0.7:
        weights["jawOpen"] = 0.9 * float(rng.beta(1.1, 1.6))
    kind, strength = rng.random(), float(rng.beta(1.5, 1.5))
    if kind < 0.33:
        _both(rng, weights, "mouthSmile", strength, one_sided=0.12)
        _both(rng, weights, "cheekSquint", 0.5 * strength)
        if rng.random() < 0.5:  # a smile that shows its teeth
            _both(rng, weights, "mouthUpperUp", 0.6 * strength)
            weights["jawOpen"] = min(weights.get("jawOpen", 0.0), 0.25)
    elif kind < 0.47:
        weights["mouthPucker"] = strength
    elif kind < 0.59:
        weights["mouthFunnel"] = strength
    elif kind < 0.69:
        _both(rng, weights, "mouthFrown", strength)
    elif kind < 0.77:
        name = str(rng.choice(["mouthLeft", "mouthRight"]))
        weights[name] = 0.7 * strength
    elif kind < 0.83:
        for name in ("mouthRollLower", "mouthRollUpper"):
            weights[name] = strength * float(rng.uniform(0.4, 1))
        _both(rng, weights, "mouthPress", 0.6 * strength)
        weights["jawOpen"] = 0.0
    elif kind < 0.87:
        _both(rng, weights, "cheekPuff", strength)
        weights["jawOpen"] = 0.0
    if rng.random() < 0.3:
        _both(rng, weights, "mouthUpperUp", max(weights.get("mouthUpperUp_L", 0), 0.5 * float(rng.beta(1, 2))))
        _both(rng, weights, "mouthLowerDown", 0.6 * float(rng.beta(1, 2)))
    if rng.random() < 0.2:
        _both(rng, weights, "mouthStretch", float(rng.beta(1, 2)))
    if rng.random() < 0.08:
        weights[str(rng.choice(["jawLeft", "jawRight"]))] = 0.6 * float(rng.random())


def _speech(rng: Rng, weights: Weights) -> None:
    """Lips as in talking: they part, round or widen over (nearly) closed teeth."""
    weights["jawOpen"] = 0.22 * float(rng.beta(1, 1.5))
    upper, lower = (float(v) for v in rng.beta(1.2, 1.6, 2))
    _both(rng, weights, "mouthUpperUp", upper, one_sided=0.08)
    _both(rng, weights, "mouthLowerDown", lower, one_sided=0.08)
    kind, strength = rng.random(), float(rng.beta(1.3, 1.8))
    if kind < 0.25:
        weights["mouthFunnel"] = strength
    elif kind < 0.4:
        weights["mouthPucker"] = 0.7 * strength
    elif kind < 0.6:
        _both(rng, weights, "mouthStretch", strength)
    elif kind < 0.7:
        _both(rng, weights, "mouthSmile", 0.7 * strength)
    elif kind < 0.78:  # f and v
        weights["mouthRollLower"] = strength
    if rng.random() < 0.2:
        weights["mouthShrugUpper"] = 0.6 * float(rng.random())


def _eyes(rng: Rng, weights: Weights) -> None:
    kind = rng.random()
    if kind < 0.17:
        _both(rng, weights, "eyeBlink", float(rng.uniform(0.85, 1)), spread=0.03)
    elif kind < 0.23:  # a wink, or asymmetric lids
        weights["eyeBlink_L"], weights["eyeBlink_R"] = (
            float(v) for v in rng.permutation([rng.uniform(0.8, 1), rng.uniform(0, 0.3)])
        )
    elif kind < 0.42:
        _both(rng, weights, "eyeBlink", float(rng.uniform(0, 0.7)), spread=0.08)
    elif kind < 0.53:
        _both(rng, weights, "eyeWide", float(rng.uniform(0.2, 1)))
    if rng.random() < 0.2:
        _both(rng, weights, "eyeSquint", float(rng.uniform(0.1, 0.8)))


def _brows(rng: Rng, weights: Weights) -> None:
    kind = rng.random()
    if kind < 0.25:
        strength = float(rng.uniform(0.2, 1))
        _both(rng, weights, "browInnerUp", strength)
        _both(rng, weights, "browOuterUp", strength * float(rng.uniform(0.3, 1)), one_sided=0.2)
    elif kind < 0.5:
        _both(rng, weights, "browDown", float(rng.uniform(0.2, 1)))
    if rng.random() < 0.1:
        _both(rng, weights, "noseSneer", float(rng.uniform(0.2, 0.8)))


def _both(
    rng: Rng, weights: Weights, name: str, strength: float, *, spread: float = 0.12, one_sided: float = 0.0
) -> None:
    """Set both sides of a shape to nearly the same strength, sometimes one side only."""
    sides = strength * (1 + rng.uniform(-spread, spread, 2))
    if rng.random() < one_sided:
        sides[rng.integers(2)] *= 0.1
    weights[f"{name}_L"], weights[f"{name}_R"] = (float(v) for v in np.clip(sides, 0, 1))


def _clipped_normal(rng: Rng, sigma: float, limit: float) -> float:
    return float(np.clip(rng.normal() * sigma, -limit, limit))
