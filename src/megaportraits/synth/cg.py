"""A procedural head: less detailed than a lifted photograph, but it turns to 45 degrees with correct disocclusion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit

from megaportraits.synth import shade
from megaportraits.synth.head import REGIONS, MorphableHead, optical_angle
from megaportraits.synth.lift import inner_parts
from megaportraits.synth.raster import Floats, Ints, rasterize, vertex_normals
from megaportraits.synth.skin import Palette, SkinPainter, hair_weight
from megaportraits.synth.stage import FLIP_Y, HeadMotion, SynthFrame, develop, fading, place, surface_map, to_pixels

Rng = np.random.Generator
_GAMMA = 1 / 1.4
_SCLERA = np.array([0.86, 0.81, 0.78], np.float32)
_BROWN = 2  # of the irises below
_IRISES = np.array([[0.22, 0.12, 0.06], [0.12, 0.07, 0.04], [0.28, 0.42, 0.55], [0.30, 0.40, 0.25], [0.40, 0.45, 0.50]])


@dataclass(frozen=True)
class CgHead:
    """One procedural person; the attributes are those of `lifted.LiftedHead` where they share a name."""

    head: MorphableHead
    identity: str
    base: Floats
    triangles: Ints
    kinds: Ints
    texture: Floats
    texture_points: Floats
    paint: shade.Paint
    light: shade.Light

    @cached_property
    def canonical(self) -> Floats:
        """(26719, 3) cm: neutral-expression, unturned points."""
        return self.base

    @cached_property
    def _share(self) -> Floats:
        return fading(self.base)

    @cached_property
    def _eye_angle(self) -> Floats:
        return optical_angle(self.base)

    def place(self, motion: HeadMotion) -> tuple[Floats, Floats]:
        """The expressed mesh in head space, and in crop coordinates and depth, (26719, 3) each."""
        mesh = self.head.express(self.base, motion.expression, motion.gaze)
        return mesh, place(mesh, self._share, motion)

    def render(self, motion: HeadMotion, size: int, *, supersample: int = 2, coords: bool = True) -> SynthFrame:
        """One frame of `size` pixels."""
        mesh, placed = self.place(motion)
        wide = size * supersample
        fragments = rasterize(to_pixels(placed, wide), self.triangles, wide)
        picture = shade.shade(
            fragments,
            self.triangles,
            self.kinds,
            texture=self.texture,
            texture_points=self.texture_points,
            normals=vertex_normals(placed * FLIP_Y, self.triangles),
            occluded=shade.occlusion(self.head, self.base, mesh),
            eye_angle=self._eye_angle,
            paint=self.paint,
            light=self.light,
        )
        picture[..., :3] = np.clip(picture[..., :3], 0, 1) ** _GAMMA
        image, matte = develop(picture, size)
        surface = valid = None
        if coords:
            surface, valid = surface_map(self.canonical, placed, self.triangles, picture[..., 3])
        return SynthFrame(image, matte, surface, valid, fragments, placed)


class CgCast:
    """Makes procedural people; a person depends only on the number."""

    def __init__(self, head: MorphableHead) -> None:
        self.head = head
        self._painter = SkinPainter(head)
        below = head.triangles.min(1) < REGIONS["skin"].stop
        inner, inner_kinds = inner_parts(head)
        face, back = head.material("M_Face"), head.material("M_BackHead") & below
        self._triangles = np.ascontiguousarray(
            np.concatenate([head.triangles[face], head.triangles[back], inner]), np.int32
        )
        kinds = [np.full(face.sum(), shade.SKIN), np.full(back.sum(), shade.PAINTED), inner_kinds]
        self._kinds = np.concatenate(kinds).astype(np.int32)

    def person(self, number: int) -> CgHead:
        """Person `number`, named `cg-000123`."""
        rng = np.random.default_rng([0xC6, number])
        palette = Palette.sample(rng)
        hair = hair_weight(rng, self.head) if rng.random() < 0.93 else np.zeros(len(self.head.neutral), np.float32)
        base = self.head.shape(rng.normal(size=len(self.head.identity)) * 0.9)
        _broaden_bust(base)
        texture = self._painter.paint(rng, palette, hair)
        normals = vertex_normals(base, self._triangles)
        skin = REGIONS["skin"]
        base[skin] += normals[skin] * hair[skin, None] * rng.uniform(0.1, 1.6)
        return CgHead(
            head=self.head,
            identity=f"cg-{number:06d}",
            base=base,
            triangles=self._triangles,
            kinds=self._kinds,
            texture=texture,
            texture_points=self._painter.texture_points,
            paint=self._paint(rng, palette, hair),
            light=sample_light(rng),
        )

    def _paint(self, rng: Rng, palette: Palette, hair: Floats) -> shade.Paint:
        neutral = self.head.neutral
        vertex = np.tile(palette.skin * 0.95, (len(neutral), 1))
        vertex += hair[:, None] * (palette.hair * (1 + 0.15 * rng.normal(size=(len(neutral), 1))) - vertex)
        collar = rng.uniform(-14, -11.5) + 0.175 * np.clip(5 - neutral[:, 2], 0, 99)
        cloth = rng.uniform(0.03, 0.9, 3) * rng.uniform(0.4, 1)
        vertex += expit((collar - neutral[:, 1]) * 4)[:, None] * (cloth - vertex)
        vertex[REGIONS["mouth_socket"]] = (0.35, 0.12, 0.10)
        vertex[REGIONS["gums"]] = np.array([0.62, 0.30, 0.29]) * rng.uniform(0.7, 1.1)
        vertex[REGIONS["teeth"]] = np.array([0.90, 0.87, 0.80]) * rng.uniform(0.75, 1.0)
        # Dark skin has brown eyes, light skin any colour.
        choices = _BROWN if palette.darkness > 0.55 else len(_IRISES)
        iris = np.tile(_IRISES[rng.integers(choices)] * rng.uniform(0.7, 1.2), (2, 1))
        return shade.Paint(iris.astype(np.float32), _SCLERA, vertex.astype(np.float32))


def _broaden_bust(base: Floats) -> None:
    """Extend the model's short bust down and outward, in place, so that its end is outside every frame."""
    skin = base[: REGIONS["skin"].stop]
    below = np.clip(-13 - skin[:, 1], 0, None)
    skin[:, 1] -= 1.2 * below
    skin[:, 0] *= 1 + 0.12 * below


def sample_light(rng: Rng) -> shade.Light:
    """Ambient light with one main direction, from above more often than not."""
    direction = rng.normal(size=3)
    direction[2] = abs(direction[2]) + 0.8
    direction[1] += 0.4
    direction /= np.linalg.norm(direction)
    harmonics = np.concatenate([np.zeros(4), rng.normal(size=5) * 0.03])
    harmonics[0] = rng.uniform(0.45, 0.75)
    harmonics[1:4] = rng.uniform(0.15, 0.6) * direction[[1, 2, 0]]
    return shade.Light(harmonics.astype(np.float32), float(rng.uniform(0.03, 0.22)), direction.astype(np.float32))
