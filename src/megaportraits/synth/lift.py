"""Turn one photograph into a head that can be posed: the morphable head, textured with the photograph.

Three kinds of surface share one z-buffer: the face mesh with the photograph projected on it and real holes for mouth
and eyes; a two-sided sheet with hair, ears, neck and shoulders; and modelled eyeballs, teeth and mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import FaceError, ShapeError
from megaportraits.ops.geometry import HEAD_CENTER, matrix_to_euler
from megaportraits.synth import appearance, shade, sheet
from megaportraits.synth.blur import soften
from megaportraits.synth.fit import HeadFit, LandmarkFitter
from megaportraits.synth.head import REGIONS, MorphableHead
from megaportraits.synth.lifted import CROP_CM, CROP_PX, LiftedHead
from megaportraits.synth.raster import Bools, Floats, Fragments, Ints, rasterize, vertex_normals

PX_PER_CM = CROP_PX / CROP_CM
MAX_RESIDUAL_CM = 0.30
MAX_YAW, MAX_PITCH = 17.0, 20.0
"""Maximum head rotation in degrees; beyond it too much of the face is hidden."""
MAX_SOFT = 0.15
"""Maximum share of half-transparent pixels of a person; soft hair has less than half of it."""
HAIR_CM, MAX_STRAY_CM2 = 7.0, 6.0
"""Maximum extent of hair beside and above the head, and maximum area beyond it, square centimetres."""
MAX_WHITE = 0.3
"""Maximum share of overexposed pixels of a person; a white shirt has a tenth."""
_UNSEEN_EXPRESSION = 0.02  # smaller coefficients are noise of the fit


@dataclass(frozen=True)
class _Crop:
    """A photograph resampled to the lift crop: pixels, matte, validity mask, landmarks."""

    rgb: npt.NDArray[np.uint8]
    matte: Floats
    inside: Floats
    landmarks: Floats


class Lifter:
    """Prepares photographs of people for posing; one instance serves all photos."""

    def __init__(self, head: MorphableHead) -> None:
        self.head = head
        self.fitter = LandmarkFitter(head)
        triangles = head.triangles
        middle = head.neutral[triangles].mean(1)
        face = head.material("M_Face")
        ears = (np.abs(middle[:, 0]) > 7.2) & (middle[:, 2] < 2.2) & (middle[:, 1] > -4)
        self._face = np.flatnonzero(face & ~ears & (middle[:, 1] > -8.6) & (middle[:, 2] > -1.5))
        skin = (face & ~ears) | head.material("M_BackHead")
        self._skin = np.ascontiguousarray(triangles[skin & (triangles.max(1) < REGIONS["skin"].stop)])
        self._inner, self._inner_kind = inner_parts(head)
        self._grid, self._grid_triangles = sheet.grid(CROP_PX)

    def lift(self, image: npt.NDArray[np.uint8], landmarks: npt.ArrayLike, matte: Floats, name: str = "") -> LiftedHead:
        """Lift one person.

        Args:
            image: (H, W, 3) uint8 RGB.
            landmarks: (478, >= 2) MediaPipe points in pixels.
            matte: (H, W) in [0, 1], the person.
            name: identity, kept for labels.

        Raises:
            FaceError: the landmarks do not fit a head well, the face is turned too far, or the matte misses it.
        """
        if matte.shape != image.shape[:2]:
            raise ShapeError(f"The matte must be {image.shape[:2]} like the image, got {matte.shape}.")
        points = np.asarray(landmarks, np.float64)[:, :2]
        fit = self.fitter.fit(points)
        yaw, pitch, _ = matrix_to_euler(fit.rotation)
        if fit.residual > MAX_RESIDUAL_CM:
            raise FaceError(f"bad fit: the landmarks miss the head by {fit.residual:.2f} cm")
        if abs(yaw) > MAX_YAW or abs(pitch) > MAX_PITCH:
            raise FaceError(f"turned away: yaw {yaw:.0f}, pitch {pitch:.0f} degrees")
        expression = np.where(fit.expression > _UNSEEN_EXPRESSION, fit.expression, 0).astype(np.float32)
        base = self.head.shape(fit.identity)
        mesh = self.head.express(base, expression)
        camera = self._camera(mesh, fit.rotation)
        crop = _bring_to_crop(image, matte, points, fit)
        core = self._core(base)
        alpha = self._complete_matte(crop, camera, core)
        fragments = rasterize(camera, self._skin, CROP_PX)
        normals = vertex_normals(mesh, self._skin) @ fit.rotation.T.astype(np.float32)
        face = self._face_triangles(core, camera, normals, fragments, alpha)
        hidden = sheet.covered_inside(
            rasterize(camera, face, CROP_PX), camera[self.head.landmarks68[17:68], :2].astype(np.float32)
        )
        hanging = self._sheet(fragments, camera, mesh, hidden, fit)
        white = (crop.rgb[alpha > 0.9].min(1) > 238).mean()
        if white > MAX_WHITE:
            raise FaceError(f"overexposed: {white:.0%} of the person are white")
        light, skin = self._light(crop.rgb, camera, normals)
        grey = appearance.is_grey(crop.rgb)
        paint = appearance.make_paint(crop.rgb, crop.landmarks, skin, len(base), grey)
        shadow = shade.occlusion(self.head, base, mesh)
        appearance.project_teeth(paint, crop.rgb, crop.landmarks, camera, shadow)
        kinds = [
            np.full(len(face), shade.PHOTO),
            self._inner_kind,
            np.full(len(hanging.triangles), shade.SHEET),
        ]
        return LiftedHead(
            head=self.head,
            identity=name,
            base=base,
            rest_rotation=fit.rotation,
            rest_expression=expression,
            sheet=hanging,
            triangles=np.concatenate([face, self._inner, hanging.triangles + len(base)]).astype(np.int32),
            kinds=np.concatenate(kinds).astype(np.int32),
            inner_triangles=self._inner,
            texture=_texture(crop.rgb, alpha),
            texture_points=np.concatenate([camera[:, :2], self._grid]).astype(np.float32),
            paint=paint,
            light=light,
            grey=grey,
        )

    def _camera(self, mesh: Floats, rotation: npt.NDArray[np.float64]) -> Floats:
        """Mesh points to crop pixels x, y and nearness z in cm."""
        center = rotation @ np.array(HEAD_CENTER)
        camera = mesh @ rotation.T.astype(np.float32)
        camera[:, 0] = CROP_PX / 2 + PX_PER_CM * (camera[:, 0] - center[0])
        camera[:, 1] = CROP_PX / 2 - PX_PER_CM * (camera[:, 1] - center[1])
        return camera.astype(np.float32)

    def _core(self, base: Floats) -> Bools:
        """(F,) mask of the candidate face triangles that always show the photograph: the inner face."""
        corners = self.head.triangles[self._face]
        place = base[corners].mean(1)
        eyes = (place[:, 1] > 2) & (place[:, 1] < 6.5)
        inner = (np.abs(place[:, 0]) < np.where(eyes, 5.2, 4.2)) & (place[:, 1] > -7.2)
        return np.asarray(inner & (corners.max(1) < REGIONS["narrow_face"].stop))

    def _complete_matte(self, crop: _Crop, camera: Floats, core: Bools) -> Floats:
        """The matte of the fitted person: the face is opaque, other people are removed."""
        outline = cv2.convexHull(np.round(camera[self.head.landmarks68[:27], :2]).astype(np.int32))
        face = np.zeros((CROP_PX, CROP_PX), np.float32)
        cv2.fillConvexPoly(face, outline, 1.0)
        face = cv2.erode(face, np.ones((5, 5), np.uint8))
        outside = float((face * (1 - crop.matte)).sum() / max(face.sum(), 1))
        if outside > 0.12:
            raise FaceError(f"bad matte: it misses {outside:.0%} of the face")
        alpha = np.maximum(crop.matte, cv2.GaussianBlur(face, (0, 0), 2) * (face > 0))
        inner = np.ascontiguousarray(self.head.triangles[self._face][core])
        alpha = np.maximum(alpha, rasterize(camera, inner, CROP_PX).covered())
        _, parts = cv2.connectedComponents((alpha > 0.3).astype(np.uint8))
        x, y = np.clip(camera[self.head.landmarks68[30], :2].astype(int), 0, CROP_PX - 1)
        person = (parts == parts[y, x]).astype(np.uint8)
        alpha = alpha * cv2.dilate(person, np.ones((5, 5), np.uint8))
        soft = float(((alpha > 0.1) & (alpha < 0.9)).sum() / max((alpha > 0.5).sum(), 1))
        if soft > MAX_SOFT:
            raise FaceError(f"bad matte: {soft:.0%} of the person are half transparent")
        # Hair extends no further from the head; picture frames, flags and chair backs do.
        head = rasterize(camera, self._skin, CROP_PX).covered()
        far = cv2.distanceTransform((~head).astype(np.uint8), cv2.DIST_L2, 3) > HAIR_CM * PX_PER_CM
        nose = int(camera[self.head.landmarks68[33], 1])  # shoulders are below it
        if (far & (alpha > 0.5))[:nose].sum() > MAX_STRAY_CM2 * PX_PER_CM**2:
            raise FaceError("bad matte: it holds more than a person")
        _check_borders(alpha, crop.inside)
        return alpha.astype(np.float32)

    def _face_triangles(
        self, core: Bools, camera: Floats, normals: Floats, fragments: Fragments, alpha: Floats
    ) -> Ints:
        """Triangles that show the photograph: all of the inner face, and others that face the camera."""
        corners = self.head.triangles[self._face]
        middle = camera[corners].mean(1)
        cell = np.clip(middle[:, :2].astype(int), 0, CROP_PX - 1)
        nearest = fragments.interpolate(self._skin, camera[:, 2:])[cell[:, 1], cell[:, 0], 0]
        seen = fragments.covered()[cell[:, 1], cell[:, 0]] & (middle[:, 2] > nearest - 0.35)
        facing = normals[corners, 2].mean(1) > 0.12
        opaque = alpha[cell[:, 1], cell[:, 0]] > 0.97
        return np.ascontiguousarray(corners[core | (facing & seen & opaque)])

    def _sheet(self, fragments: Fragments, camera: Floats, mesh: Floats, hidden: Bools, fit: HeadFit) -> sheet.Sheet:
        depth = fragments.interpolate(self._skin, camera[:, 2:])[..., 0]
        depth = sheet.extend_depth(depth, fragments.covered())
        cell = np.clip(self._grid.astype(int), 0, CROP_PX - 1)
        center = fit.rotation @ np.array(HEAD_CENTER)
        flat = (self._grid - CROP_PX / 2) / PX_PER_CM * [1, -1] + center[:2]
        rest = np.c_[flat, depth[cell[:, 1], cell[:, 0]]] @ fit.rotation
        kept = ~hidden[cell[:, 1], cell[:, 0]][self._grid_triangles].all(1)
        triangles = self._grid_triangles[kept]
        return sheet.hang(self._grid, triangles, rest, fragments, self._skin, mesh, PX_PER_CM)

    def _light(self, rgb: npt.NDArray[np.uint8], camera: Floats, normals: Floats) -> tuple[shade.Light, Floats]:
        face = REGIONS["narrow_face"]
        cell = np.clip(camera[face, :2].astype(int), 0, CROP_PX - 1)
        facing = normals[face, 2] > 0.2
        return appearance.fit_light(
            rgb[cell[facing, 1], cell[facing, 0]].astype(np.float32) / 255, normals[face][facing]
        )


def inner_parts(head: MorphableHead) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Triangles (T, 3) and kinds (T,) of eyeballs, teeth, gums and the lining of the mouth."""
    lining = head.material("M_BackHead") & (head.triangles.min(1) >= REGIONS["mouth_socket"].start)
    parts = (
        (head.material("M_IrisLeft", "M_IrisRight", "M_ScleraLeft", "M_ScleraRight"), shade.EYE),
        (head.material("M_Teeth"), shade.TEETH),
        (head.material("M_GumsTongue"), shade.GUMS),
        (lining, shade.SOCKET),
    )
    triangles = [head.triangles[mask] for mask, _ in parts]
    kinds = [np.full(int(mask.sum()), kind, np.int32) for mask, kind in parts]
    return np.ascontiguousarray(np.concatenate(triangles)), np.concatenate(kinds)


def _bring_to_crop(
    image: npt.NDArray[np.uint8], matte: Floats, landmarks: npt.NDArray[np.float64], fit: HeadFit
) -> _Crop:
    zoom = PX_PER_CM / fit.scale
    shift = CROP_PX / 2 - zoom * fit.center
    # Pixel edges are integers here; warpAffine uses pixel centres.
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    matrix[:, 2] += (zoom - 1) / 2
    source = image if zoom > 0.75 else cv2.GaussianBlur(image, (0, 0), 0.45 / zoom)
    way = cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_LINEAR
    size = (CROP_PX, CROP_PX)
    rgb = cv2.warpAffine(source, matrix, size, flags=way, borderMode=cv2.BORDER_REPLICATE)
    # Shoulders are extended beyond the photograph's sides and bottom; hair is not extended above its top.
    alpha = cv2.warpAffine(matte.astype(np.float32), matrix, size, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones(matte.shape, np.float32), matrix, size)
    top = max(0, int(np.ceil(shift[1])))
    alpha[:top] = 0
    return _Crop(rgb, alpha, inside, (landmarks * zoom + shift).astype(np.float32))


def _check_borders(alpha: Floats, inside: Floats) -> None:
    """Refuse a head that the photograph cuts off: hair at the top, or anything but shoulders at the sides."""
    rows = np.flatnonzero(inside.max(1) > 0.5)
    top = rows[0] + 2
    if rows[0] > 0 and (alpha[top] > 0.5).sum() > 2.5 * PX_PER_CM:
        raise FaceError("cut off: the photograph ends within the hair")
    chin = int(CROP_PX / 2 + 8 * PX_PER_CM)
    beyond = (alpha > 0.5) & (inside < 0.5)
    if beyond[:chin].sum() > 2 * PX_PER_CM**2:
        raise FaceError("cut off: the photograph ends beside the head")
    missing_rows = np.asarray((inside < 0.5).all(1))[chin:]
    if missing_rows.sum() / PX_PER_CM > 8.5:
        raise FaceError("cut off: the photograph ends at the neck")


def _texture(rgb: npt.NDArray[np.uint8], alpha: Floats) -> Floats:
    """Premultiplied RGBA of the person; near the edge the old background is replaced by the person's colours."""
    colour = rgb.astype(np.float32) / 255
    sure = cv2.erode((alpha > 0.9).astype(np.float32), np.ones((3, 3), np.uint8))
    inner = np.dstack([colour * sure[..., None], sure])
    near, far = (soften(inner.astype(np.float32), sigma) for sigma in (2.5, 8.0))
    known = near + far * 0.05 + 1e-6
    own = known[..., :3] / known[..., 3:]
    # Where alpha is a, the photograph shows a F + (1 - a) B; F is estimated from nearby colours of the person.
    trust = np.clip((alpha - 0.55) / 0.4, 0, 1)[..., None]
    foreground = own + trust * (colour - own)
    return np.dstack([foreground * alpha[..., None], alpha]).astype(np.float32)
