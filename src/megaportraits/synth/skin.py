"""Procedural skin, brows, lips, stubble and hair for the CG head, painted in the model's uv space."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.special import expit

from megaportraits.ops.pictures import resize
from megaportraits.synth.head import REGIONS, MorphableHead
from megaportraits.synth.raster import Floats

Rng = np.random.Generator

UV_SIZE = 512
_LIGHT_SKIN, _MID_SKIN, _DARK_SKIN = np.array([[0.92, 0.72, 0.61], [0.74, 0.51, 0.38], [0.30, 0.18, 0.12]])
_HAIR = np.array(
    [
        [0.05, 0.04, 0.035],
        [0.16, 0.09, 0.05],
        [0.35, 0.22, 0.11],
        [0.55, 0.42, 0.25],
        [0.50, 0.49, 0.48],
        [0.30, 0.12, 0.05],
    ]
)


@dataclass(frozen=True)
class Palette:
    """The colours of one CG person, RGB in [0, 1]; `darkness` is the skin's position between light and dark."""

    skin: np.ndarray
    hair: np.ndarray
    lips: np.ndarray
    darkness: float

    @staticmethod
    def sample(rng: Rng) -> Palette:
        """Random skin from light to dark, hair from black to white and red."""
        tone = float(rng.beta(1.2, 1.5))
        low, high, share = (_LIGHT_SKIN, _MID_SKIN, 2 * tone) if tone < 0.5 else (_MID_SKIN, _DARK_SKIN, 2 * tone - 1)
        skin = (low + share * (high - low)) * rng.uniform(0.92, 1.06, 3)
        hair = _HAIR[rng.integers(len(_HAIR))] * rng.uniform(0.7, 1.2)
        lips = skin * np.array([0.86, 0.58, 0.60]) * rng.uniform(0.85, 1.1)
        return Palette(skin, hair, lips, tone)


class SkinPainter:
    """The masks that do not depend on the person, in uv space; `paint` makes a texture of them."""

    def __init__(self, head: MorphableHead) -> None:
        face = head.material("M_Face")
        uv = np.zeros((len(head.neutral), 2), np.float32)
        uv[head.triangles[face].ravel()] = head.uv[head.triangles_uv[face].ravel()]
        self.texture_points: Floats = (uv * [UV_SIZE, -UV_SIZE] + [0, UV_SIZE]).astype(np.float32)
        marks = self.texture_points[head.landmarks68]
        self._lips = np.clip(_polygon(marks[48:60], 1.2), 0, 1)
        self._brows = np.clip(_brow(marks[17:22], False) + _brow(marks[22:27], True), 0, 1)
        y, x = np.mgrid[0:UV_SIZE, 0:UV_SIZE] / UV_SIZE

        def spot(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
            return np.exp(-(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2))

        self._flush = spot(0.3, 0.44, 0.09, 0.07) + spot(0.7, 0.44, 0.09, 0.07) + spot(0.5, 0.43, 0.05, 0.05)
        jaw = [[0.2, 0.55], [0.36, 0.6], [0.45, 0.53], [0.55, 0.53], [0.64, 0.6], [0.8, 0.55]]
        jaw += [[0.78, 0.75], [0.5, 0.86], [0.22, 0.75]]
        philtrum = [[0.42, 0.52], [0.58, 0.52], [0.56, 0.49], [0.44, 0.49]]
        beard = _polygon(np.array(jaw) * UV_SIZE, 10) - _polygon(np.array(philtrum) * UV_SIZE, 5)
        self._beard = np.clip(beard, 0, 1) * (1 - self._lips)

    def paint(self, rng: Rng, palette: Palette, hair: Floats) -> Floats:
        """A texture (512, 512, 4) of one person: RGB and glossiness.

        Args:
            rng: the person's random numbers.
            palette: the person's colours.
            hair: (26719,) weight of hair on each vertex.
        """
        texture = np.ones((UV_SIZE, UV_SIZE, 3)) * palette.skin
        texture *= 1 + 0.035 * _noise(rng, (6, 16, 48, 128, 256), 0.75)[..., None]
        flush = np.array([0.06, -0.05, -0.05]) * rng.uniform(0.3, 1.5) * (1 - 0.6 * palette.darkness)
        texture += self._flush[..., None] * flush
        if rng.random() < 0.5:
            stubble = rng.uniform(0, 0.5) * self._beard[..., None] * np.array([0.8, 0.75, 0.65])
            texture *= 1 - stubble * (1 + 0.25 * _noise(rng, (128, 256))[..., None])
        texture = _lay(texture, palette.lips, self._lips * rng.uniform(0.6, 1))
        bristle = np.clip(self._brows * (1 + 0.5 * _noise(rng, (96, 200))), 0, 1) * rng.uniform(0.5, 0.95)
        texture = _lay(texture, palette.hair * 0.8, bristle)
        covered = self._hair_map(rng, hair)
        texture = _lay(texture, palette.hair * self._strands(rng), covered)
        return np.dstack([np.clip(texture, 0, 1.2), 1 - 0.85 * covered]).astype(np.float32)

    def _hair_map(self, rng: Rng, hair: Floats) -> np.ndarray:
        face = REGIONS["face"]
        cell = np.clip(self.texture_points[face].astype(int), 0, UV_SIZE - 1)
        total, count = np.zeros((2, UV_SIZE, UV_SIZE), np.float32)
        np.add.at(total, (cell[:, 1], cell[:, 0]), hair[face])
        np.add.at(count, (cell[:, 1], cell[:, 0]), 1)
        smooth = cv2.GaussianBlur(total, (0, 0), 5) / (cv2.GaussianBlur(count, (0, 0), 5) + 1e-6)
        return np.clip((smooth + 0.06 * _noise(rng, (64, 128))) * 1.6 - 0.3, 0, 1)

    def _strands(self, rng: Rng) -> np.ndarray:
        grain = rng.normal(size=(UV_SIZE, UV_SIZE)).astype(np.float32)
        return (1 + cv2.GaussianBlur(grain, (0, 0), sigmaX=0.8, sigmaY=8))[..., None]


def hair_weight(rng: Rng, head: MorphableHead) -> Floats:
    """(26719,) hair on each vertex: above a random hairline with receding temples, off the ears."""
    x, y, z = np.abs(head.neutral[:, 0]), head.neutral[:, 1], head.neutral[:, 2]
    recession = rng.uniform(0, 2) * np.exp(-(((x - 3.5) / 1.6) ** 2))
    line = rng.uniform(8.6, 10.6) + recession - np.clip(x - 5, 0, 9) * 1.3 * rng.uniform(0.9, 1.1)
    nape = rng.uniform(-4, 2)
    front = expit((y - np.where(z > 0, line, -99)) * 2.5)
    weight = np.where(z < 1.2, expit((y - nape) * 2.5), front)
    ears = (x > 6.9) & (y < 5.4) & (y > -3.6) & (np.abs(z + 1) < 2.8) & (np.arange(len(x)) < REGIONS["face"].stop)
    weight[ears] = 0
    weight[REGIONS["skin"].stop :] = 0
    return weight.astype(np.float32)


def _polygon(points: np.ndarray, blur: float) -> np.ndarray:
    mask = np.zeros((UV_SIZE, UV_SIZE), np.float32)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1.0, lineType=cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(mask, (0, 0), blur)


def _brow(points: np.ndarray, mirrored: bool) -> np.ndarray:
    thickness = np.array([3, 6, 7, 6, 2.0])[:, None] * 1.25
    if mirrored:
        thickness = thickness[::-1]
    up = np.array([[0, -1.0]])
    return _polygon(np.concatenate([points + up * thickness * 0.7, (points - up * thickness * 0.9)[::-1]]), 1.8)


def _noise(rng: Rng, octaves: tuple[int, ...], persistence: float = 0.5) -> np.ndarray:
    """(512, 512) of unit variance, summed from grids of so many cells."""
    total = np.zeros((UV_SIZE, UV_SIZE), np.float32)
    for i, cells in enumerate(octaves):
        values = rng.normal(size=(cells, cells)).astype(np.float32)
        total += persistence**i * resize(values, UV_SIZE)
    return total / np.sqrt(sum(persistence ** (2 * i) for i in range(len(octaves))))


def _lay(texture: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return texture + alpha.reshape(UV_SIZE, UV_SIZE, 1) * (colour - texture)
