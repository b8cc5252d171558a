"""Fit the morphable head to MediaPipe landmarks of a photograph.

Alternates a scaled-orthographic pose (closed form) with one ridge-regularised, box-constrained quadratic over
identity and expression coefficients, solved by projected coordinate descent; about 30 ms a photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megaportraits.errors import DataError
from megaportraits.ops.geometry import HEAD_CENTER
from megaportraits.synth.compiled import compiled
from megaportraits.synth.head import MorphableHead

Doubles = npt.NDArray[np.float64]

# Landmark numbers as text: a tuple of forty would be forty lines.
_LIPS = (
    "61 146 91 181 84 17 314 405 321 375 291 185 40 39 37 0 267 269 270 409 "
    "78 95 88 178 87 14 317 402 318 324 308 191 80 81 82 13 312 311 310 415"
)
_EYES = (
    "33 7 163 144 145 153 154 155 133 246 161 160 159 158 157 173 "
    "263 249 390 373 374 380 381 382 362 466 388 387 386 385 384 398"
)
_BROWS = "70 63 105 66 107 336 296 334 293 300"
_EMPHASIS = ((_LIPS, 1.6), (_EYES, 1.6), (_BROWS, 1.3))  # most visible features
_IDENTITY_MODES = 60
_IDENTITY_LIMIT = 3.0  # standard deviations
_MAX_SPREAD_CM = 0.75
_NOISE_CM = 0.12  # of a landmark
_RIDGE = 3.0
_ROUNDS = 8
_SWEEPS = 60
# Shapes that landmarks cannot distinguish from others, or without visible effect.
_UNUSED = ("PupilDilate", "mouthClose", "cheekRaiser", "jawForward")


@dataclass(frozen=True)
class HeadFit:
    """A head in a photograph: camera = `scale * (rotation @ V)`, pixel x = camera x + tx, pixel y = ty - camera y.

    Attributes:
        identity: (60,) coefficients.
        expression: (57,) coefficients in [0, 1].
        rotation: (3, 3), head axes to camera axes.
        scale: pixels per centimetre.
        origin: (2,) pixel position of the head's origin.
        residual: weighted rms distance of landmarks, centimetres.
    """

    identity: Doubles
    expression: npt.NDArray[np.float32]
    rotation: Doubles
    scale: float
    origin: Doubles
    residual: float

    def project(self, points: npt.ArrayLike) -> Doubles:
        """Head points (N, 3) in centimetres to pixels (N, 2)."""
        camera = self.scale * np.asarray(points, np.float64) @ self.rotation.T
        return camera[:, :2] * [1, -1] + self.origin

    @property
    def center(self) -> Doubles:
        """Pixel position (2,) of `HEAD_CENTER`."""
        return self.project([HEAD_CENTER])[0]


class LandmarkFitter:
    """Holds the model restricted to the landmark vertices; `fit` is called per photo.

    Raises:
        DataError: the head has no correspondence to MediaPipe's points.
    """

    def __init__(self, head: MorphableHead) -> None:
        if head.mediapipe_vertex is None or head.mediapipe_spread is None:
            raise DataError(
                "This head has no correspondence to MediaPipe's landmarks.",
                fix="Pack it with `megaportraits synth-head`, which finds the correspondence.",
            )
        usable = (head.mediapipe_vertex >= 0) & (head.mediapipe_spread < _MAX_SPREAD_CM)
        self._points = np.flatnonzero(usable)
        vertices = head.mediapipe_vertex[self._points]
        weight = 1 / (head.mediapipe_spread[self._points] + 0.15)
        for points, factor in _EMPHASIS:
            weight[np.isin(self._points, np.array(points.split(), int))] *= factor
        self._weight = (weight / weight.mean()).astype(np.float64)
        self._used = np.array([i for i, n in enumerate(head.expression_names) if not n.startswith(_UNUSED)])
        self._neutral = head.neutral[vertices].astype(np.float64)
        modes = [head.identity[:_IDENTITY_MODES, vertices], head.expression[self._used][:, vertices]]
        self._modes = np.concatenate(modes).astype(np.float64)  # (K, n, 3)
        self._total_expressions = len(head.expression_names)
        limit = np.full(len(self._modes), 1.0)
        limit[:_IDENTITY_MODES] = _IDENTITY_LIMIT
        floor = np.zeros(len(self._modes))
        floor[:_IDENTITY_MODES] = -_IDENTITY_LIMIT
        self._low, self._high = floor, limit

    def fit(self, landmarks: npt.ArrayLike) -> HeadFit:
        """Fit to landmarks (478, >= 2) in pixels of the photo (x right, y down)."""
        seen = np.asarray(landmarks, np.float64)[self._points, :2] * [1, -1]
        x = np.zeros(len(self._modes))
        scale, rotation, shift = self._pose(self._neutral, seen)
        for turn in range(_ROUNDS):
            hessian, gradient = self._quadratic(seen, scale, rotation, shift)
            if turn == 0:
                x = np.clip(np.linalg.solve(hessian, gradient), self._low, self._high)
            _descend(hessian, gradient, x, self._low, self._high, _SWEEPS)
            shape = self._neutral + np.tensordot(x, self._modes, 1)
            scale, rotation, shift = self._pose(shape, seen)
        error = np.linalg.norm(scale * shape @ rotation[:2].T + shift - seen, axis=1) / scale
        expression = np.zeros(self._total_expressions, np.float32)
        expression[self._used] = x[_IDENTITY_MODES:]
        residual = float(np.sqrt((self._weight * error**2).sum() / self._weight.sum()))
        return HeadFit(x[:_IDENTITY_MODES], expression, rotation, scale, shift * [1, -1], residual)

    def _pose(self, shape: Doubles, seen: Doubles) -> tuple[float, Doubles, Doubles]:
        """Scaled-orthographic pose: `seen ~ scale * (rotation @ shape)[:2] + shift`, y up."""
        weight = self._weight[:, None] / self._weight.sum()
        shape_mean, seen_mean = (weight * shape).sum(0), (weight * seen).sum(0)
        root = np.sqrt(weight)
        affine = np.linalg.lstsq((shape - shape_mean) * root, (seen - seen_mean) * root, rcond=None)[0].T
        u, singular, vt = np.linalg.svd(affine, full_matrices=False)
        rows = u @ vt
        rotation = np.vstack([rows, np.cross(rows[0], rows[1])])
        scale = float(singular.mean())
        return scale, rotation, seen_mean - scale * rows @ shape_mean

    def _quadratic(self, seen: Doubles, scale: float, rotation: Doubles, shift: Doubles) -> tuple[Doubles, Doubles]:
        root = np.sqrt(self._weight)[:, None] / _NOISE_CM
        rest = ((seen - shift) / scale - self._neutral @ rotation[:2].T) * root
        design = (self._modes.reshape(-1, 3) @ rotation[:2].T).reshape(len(self._modes), -1, 2) * root
        design = design.reshape(len(design), -1)
        return design @ design.T + np.eye(len(design)) * _RIDGE**2, design @ rest.reshape(-1)


@compiled
def _descend(hessian: Doubles, gradient: Doubles, x: Doubles, low: Doubles, high: Doubles, sweeps: int) -> None:
    """Coordinate descent on `x H x / 2 - g x` within a box, in place."""
    for _ in range(sweeps):
        for i in range(len(x)):
            slope = gradient[i]
            for j in range(len(x)):
                slope -= hessian[i, j] * x[j]
            x[i] = min(max(x[i] + slope / hessian[i, i], low[i]), high[i])
