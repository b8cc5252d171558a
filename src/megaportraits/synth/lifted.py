"""A lifted photograph: renders a frame and its label geometry for a motion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from megaportraits.ops.geometry import HEAD_CENTER, HEAD_CROP_CM, HEAD_HALF_CM, HeadPose
from megaportraits.ops.pictures import resize
from megaportraits.synth import shade
from megaportraits.synth.head import MorphableHead, optical_angle
from megaportraits.synth.raster import Floats, Ints, rasterize, vertex_normals
from megaportraits.synth.sheet import Sheet
from megaportraits.synth.stage import FLIP_Y, HeadMotion, SynthFrame, develop, fading, place, surface_map, to_pixels

CROP_CM = 44.0
"""Width of the lift crop: wider than a head crop, so that its border stays outside the frame of a shifted or small
head.
"""
CROP_PX = 352


@dataclass(frozen=True)
class LiftedHead:
    """One person of `lift.Lifter`; vertices are those of the morphable head, then those of the sheet.

    Attributes:
        head: the model.
        identity: the person's name in labels.
        base: (26719, 3) neutral-expression mesh, cm.
        rest_rotation: (3, 3) the head's rotation in the photograph.
        rest_expression: (57,) the photograph's expression.
        sheet: hair, ears, neck, shoulders.
        triangles: (T, 3).
        kinds: (T,) of `shade`.
        inner_triangles: (I, 3) the lit ones, for normals.
        texture: (S, S, 4) premultiplied photograph.
        texture_points: (N, 2) pixels in it.
        paint: colours of the unphotographed parts.
        light: of the photograph.
        grey: whether it is black and white.
    """

    head: MorphableHead
    identity: str
    base: Floats
    rest_rotation: npt.NDArray[np.float64]
    rest_expression: Floats
    sheet: Sheet
    triangles: Ints
    kinds: Ints
    inner_triangles: Ints
    texture: Floats
    texture_points: Floats
    paint: shade.Paint
    light: shade.Light
    grey: bool

    @cached_property
    def canonical(self) -> Floats:
        """(N, 3) cm: all vertices with neutral expression and without rotation; source of the coords member."""
        return np.concatenate([self.base, self.sheet.follow(self.base)])

    @cached_property
    def _share(self) -> Floats:
        return fading(self.canonical)

    @cached_property
    def _eye_angle(self) -> Floats:
        return optical_angle(self.base)

    @cached_property
    def _two_sided(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.kinds == shade.SHEET)

    @cached_property
    def rest(self) -> HeadMotion:
        """The photograph's own motion, with the head centred in the crop; the gaze is unknown and set to 0."""
        center = (self.rest_rotation @ np.array(HEAD_CENTER))[:2] * [1, -1] / HEAD_HALF_CM
        pose = HeadPose(self.rest_rotation, -center, 1.0)
        return HeadMotion(self.rest_expression, np.zeros(2, np.float32), pose, np.eye(3))

    def photograph(self, size: int, *, coords: bool = True) -> SynthFrame:
        """The photograph itself as the frame of the motion `rest`: real eyes, teeth and skin.

        Geometry and surface map are those of the fitted head.
        """
        frame = self.render(self.rest, size, supersample=1, coords=coords)
        half = self.texture.shape[0] * HEAD_CROP_CM / CROP_CM / 2
        first, last = (round(self.texture.shape[0] / 2 + end) for end in (-half, half))
        window = self.texture[first:last, first:last]
        image, matte = develop(resize(window, size), size)
        return replace(frame, image=image, matte=matte)

    def place(self, motion: HeadMotion) -> tuple[Floats, Floats]:
        """The expressed mesh (26719, 3) in head space, and all vertices (N, 3) in crop coordinates and depth."""
        mesh = self.head.express(self.base, motion.expression, motion.gaze)
        points = np.concatenate([mesh, self.sheet.follow(mesh)])
        return mesh, place(points, self._share, motion, self.rest_rotation)

    def render(self, motion: HeadMotion, size: int, *, supersample: int = 2, coords: bool = True) -> SynthFrame:
        """One frame of `size` pixels."""
        mesh, placed = self.place(motion)
        count, wide = len(mesh), size * supersample
        behind = slice(count, None)
        fragments = rasterize(to_pixels(placed, wide, behind), self.triangles, wide, self._two_sided)
        upright = placed[:count] * FLIP_Y
        picture = shade.shade(
            fragments,
            self.triangles,
            self.kinds,
            texture=self.texture,
            texture_points=self.texture_points,
            normals=vertex_normals(upright, self.inner_triangles),
            occluded=shade.occlusion(self.head, self.base, mesh),
            eye_angle=self._eye_angle,
            paint=self.paint,
            light=self.light,
        )
        image, matte = develop(picture, size)
        surface = valid = None
        if coords:
            surface, valid = surface_map(
                self.canonical, placed, self.triangles, picture[..., 3], self._two_sided, behind
            )
        return SynthFrame(image, matte, surface, valid, fragments, placed)
