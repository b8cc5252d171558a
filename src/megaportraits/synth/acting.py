"""Generate motion over time: talking, gaze changes, head turns, smiles and blinks, for demos and driver clips."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.synth.head import MorphableHead
from megaportraits.synth.stage import HeadMotion

Curve = npt.NDArray[np.float64]

# Mouth shapes of syllables; the first number is the jaw opening.
_SYLLABLES: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.45, "mouthLowerDown_L": 0.25, "mouthLowerDown_R": 0.25},  # a
    {"jawOpen": 0.18, "mouthStretch_L": 0.45, "mouthStretch_R": 0.45, "mouthUpperUp_L": 0.2, "mouthUpperUp_R": 0.2},
    {"jawOpen": 0.22, "mouthFunnel": 0.65},  # o
    {"jawOpen": 0.08, "mouthPucker": 0.75},  # u
    {"jawOpen": 0.0, "mouthPress_L": 0.5, "mouthPress_R": 0.5, "mouthRollLower": 0.35},  # m
    {"jawOpen": 0.10, "mouthRollLower": 0.5, "mouthUpperUp_L": 0.2, "mouthUpperUp_R": 0.2},  # f
    {"jawOpen": 0.28},
)
_SYLLABLE_S = 0.17
_BLINK_S = 0.11  # half of a blink
_SMILE = {"mouthSmile": 0.75, "cheekSquint": 0.4, "mouthUpperUp": 0.3, "mouthDimple": 0.2}
# Keyframes of the performance: relative time, angles in degrees, strengths.
_SCORE = np.array(
    [
        # time  yaw  pitch roll  gaze     smile brow talk
        [0.00, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0],
        [0.08, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0],
        [0.18, -6, 2, 2, -3, 0, 0.0, 0.6, 1.0],
        [0.32, -18, 3, 4, -8, 1, 0.0, 0.1, 1.0],
        [0.45, -4, -6, 0, 14, -3, 0.0, 0.0, 1.0],
        [0.58, 18, -3, -5, 6, 2, 0.2, 0.5, 1.0],
        [0.70, 8, 8, -7, -8, 5, 0.6, 0.0, 0.6],
        [0.82, 0, 1, 2, 0, 0, 1.0, 0.3, 0.0],
        [0.94, 0, 0, 0, 0, 0, 0.8, 0.2, 0.0],
        [1.00, 0, 0, 0, 0, 0, 0.1, 0.0, 0.0],
    ]
)
_BLINKS = (0.06, 0.37, 0.64, 0.88)


def act(head: MorphableHead, seconds: float, fps: float, *, seed: int = 0) -> list[HeadMotion]:
    """The performance: neutral first, then talking with turns of the head, a smile, and neutral again.

    Args:
        head: the model whose expression names are used.
        seconds: length.
        fps: frames per second.
        seed: of the order of syllables.

    Returns:
        One motion per frame; yaw reaches 18 degrees to both sides, and every frame is continuous with the last.
    """
    count = max(round(seconds * fps), 2)
    times = np.arange(count) / fps
    yaw, pitch, roll, gaze_yaw, gaze_pitch, smile, brow, talk = PchipInterpolator(
        _SCORE[:, 0] * seconds, _SCORE[:, 1:], extrapolate=False
    )(np.clip(times, 0, seconds)).T
    curves = _speech(np.random.default_rng(seed), times, seconds, fps, talk)
    for name, strength in _SMILE.items():
        _add(curves, name, strength * smile)
    _add(curves, "browInnerUp", brow)
    _add(curves, "browOuterUp", 0.7 * brow)
    _add(curves, "eyeBlink", _blinks(times, seconds))
    motions = []
    for i in range(count):
        gaze = np.array([gaze_yaw[i], gaze_pitch[i]])
        weights = {name: float(np.clip(curve[i], 0, 1)) for name, curve in curves.items()}
        for name, value in head.lid_coupling(gaze).items():
            weights[name] = max(weights.get(name, 0.0), value)
        rotation = euler_to_matrix(yaw[i], pitch[i], roll[i])
        body = euler_to_matrix(0.12 * yaw[i], 0, 0.1 * roll[i])
        motions.append(HeadMotion.about_neck(head.coefficients(weights), gaze, rotation, body=body))
    return motions


def _speech(rng: np.random.Generator, times: Curve, seconds: float, fps: float, loudness: Curve) -> dict[str, Curve]:
    """Curves of the mouth shapes: random syllables, blended as in speech."""
    syllables = rng.integers(len(_SYLLABLES), size=int(seconds / _SYLLABLE_S) + 2)
    curves: dict[str, Curve] = {name: np.zeros_like(times) for shape in _SYLLABLES for name in shape}
    for i, time in enumerate(times):
        for name, value in _SYLLABLES[syllables[int(time / _SYLLABLE_S)]].items():
            curves[name][i] = value
    blur = 0.3 * _SYLLABLE_S * fps
    return {name: gaussian_filter1d(curve, blur, mode="nearest") * loudness for name, curve in curves.items()}


def _blinks(times: Curve, seconds: float) -> Curve:
    closed = np.zeros_like(times)
    for moment in _BLINKS:
        closed = np.maximum(closed, np.clip(1.25 - np.abs(times - moment * seconds) / _BLINK_S, 0, 1))
    return closed


def _add(curves: dict[str, Curve], name: str, curve: Curve) -> None:
    for side in "LR":
        key = f"{name}_{side}"
        curves[key] = curves[key] + curve if key in curves else curve
