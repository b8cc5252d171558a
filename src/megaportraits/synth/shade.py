"""Shade fragments: photographs are sampled without lighting, everything else is lit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from megaportraits.synth.compiled import compiled
from megaportraits.synth.head import REGIONS, MorphableHead, eyeball_center
from megaportraits.synth.raster import Floats, Fragments, Ints

PHOTO, SHEET, EYE, TEETH, GUMS, SOCKET, SKIN, PAINTED = range(8)
"""Kinds of triangle. PHOTO and SHEET show the texture unlit; SKIN is textured and lit, its texture's alpha being
gloss; PAINTED has vertex colours."""
_MOUTH = np.r_[REGIONS["mouth_socket"], REGIONS["gums"], REGIONS["teeth"]]


@dataclass(frozen=True)
class Light:
    """Light on a head, relative to 1 for a surface that faces the camera.

    Attributes:
        harmonics: (9,) coefficients in the order of `raster.spherical_harmonics`.
        specular: strength of the skin's highlight.
        direction: (3,) unit vector to the main light.
    """

    harmonics: Floats
    specular: float = 0.0
    direction: Floats = field(default_factory=lambda: np.array([0.15, 0.33, 0.93], np.float32))


@dataclass(frozen=True)
class Paint:
    """Colours of parts that the photograph does not show, linear in display values, RGB (3,) in [0, 1].

    Attributes:
        iris: left and right, (2, 3).
        sclera: (3,).
        vertex: (N, 3) colours of teeth, gums, mouth lining and painted surfaces.
    """

    iris: Floats
    sclera: Floats
    vertex: Floats


def occlusion(head: MorphableHead, base: Floats, expressed: Floats) -> Floats:
    """(26719,) share of light that reaches a vertex: lower deep in the mouth and under the upper lid."""
    share = np.ones(len(base), np.float32)
    lips = expressed[head.landmarks68[[48, 51, 54, 57]]].mean(0)
    depth = (lips[2] - 0.8 - expressed[_MOUTH, 2]) / 5
    share[_MOUTH] = np.clip(1 - depth, 0.10, 1) ** 1.3
    gums = REGIONS["gums"]  # and tongue: wet, and lit through the lips
    share[gums] = np.maximum(share[gums], 0.3)
    teeth = REGIONS["teeth"]
    upper_lip = expressed[head.landmarks68[62], 1]
    share[teeth] *= np.clip(0.55 + 0.45 * np.minimum((upper_lip - expressed[teeth, 1]) / 0.5, 1), 0.5, 1)
    for eye, upper, lower in (("eye_R", (37, 38), (40, 41)), ("eye_L", (43, 44), (46, 47))):
        ball = expressed[REGIONS[eye]]
        top = expressed[head.landmarks68[list(upper)], 1].mean()
        bottom = expressed[head.landmarks68[list(lower)], 1].mean()
        sideways = np.abs(ball[:, 0] - eyeball_center(base, eye)[0])
        under_lid = np.clip(1 - (top - ball[:, 1]) / 0.45, 0, 1)
        over_lid = np.clip(1 - (ball[:, 1] - bottom) / 0.3, 0, 1)
        corner = np.clip((sideways - 0.7) / 0.8, 0, 1)
        share[REGIONS[eye]] = (1 - 0.42 * under_lid) * (1 - 0.12 * over_lid) * (1 - 0.3 * corner)
    return share


def shade(
    fragments: Fragments,
    triangles: Ints,
    kinds: Ints,
    *,
    texture: Floats,
    texture_points: Floats,
    normals: Floats,
    occluded: Floats,
    eye_angle: Floats,
    paint: Paint,
    light: Light,
) -> Floats:
    """Premultiplied RGBA (W, W, 4) of all fragments.

    Args:
        fragments: the visible triangles.
        triangles: (T, 3).
        kinds: (T,) one of the kinds above.
        texture: (H, W, 4), premultiplied for photographs.
        texture_points: (N, 2) pixel position of each vertex in the texture.
        normals: (N, 3) in camera axes, y up.
        occluded: (N,) of `occlusion`.
        eye_angle: (N,) of `head.optical_angle`.
        paint: the colours.
        light: the light.
    """
    out = np.zeros((*fragments.triangle.shape, 4), np.float32)
    _shade(
        fragments.triangle,
        fragments.weights,
        triangles,
        kinds,
        texture,
        texture_points,
        normals,
        occluded,
        eye_angle,
        paint.iris.astype(np.float32),
        paint.sclera.astype(np.float32),
        paint.vertex,
        light.harmonics.astype(np.float32),
        float(light.specular),
        light.direction.astype(np.float32),
        out,
    )
    return out


@compiled
def _lookup(texture: Floats, x: float, y: float, out: Floats) -> None:
    height, width = texture.shape[:2]
    x = min(max(x - 0.5, 0.0), width - 1.001)
    y = min(max(y - 0.5, 0.0), height - 1.001)
    x0, y0 = int(x), int(y)
    dx, dy = x - x0, y - y0
    for k in range(4):
        top = texture[y0, x0, k] * (1 - dx) + texture[y0, x0 + 1, k] * dx
        bottom = texture[y0 + 1, x0, k] * (1 - dx) + texture[y0 + 1, x0 + 1, k] * dx
        out[k] = top * (1 - dy) + bottom * dy


@compiled
def _irradiance(sh: Floats, x: float, y: float, z: float) -> float:
    linear = sh[0] + sh[1] * y + sh[2] * z + sh[3] * x
    square = sh[4] * x * y + sh[5] * y * z + sh[6] * (3 * z * z - 1) + sh[7] * x * z + sh[8] * (x * x - y * y)
    return max(linear + square, 0.05)


@compiled
def _eye(angle: float, iris: Floats, sclera: Floats, out: Floats) -> None:
    """Pupil, iris with a bright middle and a dark limbal ring, sclera."""
    if angle < 7.5:
        for k in range(3):
            out[k] = 0.02
    elif angle < 22.5:
        middle = 1.0 + 0.25 * max(0.0, 1 - abs(angle - 12) / 5)
        ring = 1.0 - 0.55 * max(0.0, (angle - 18.5) / 4.0)
        edge = min(1.0, (angle - 7.5) / 2)
        for k in range(3):
            out[k] = iris[k] * middle * ring * edge + 0.02 * (1 - edge)
    else:
        rim = min(1.0, (angle - 22.5) / 4.0)
        for k in range(3):
            out[k] = sclera[k] * (0.5 + 0.5 * rim)


@compiled
def _shade(
    triangle: Ints,
    weights: Floats,
    triangles: Ints,
    kinds: Ints,
    texture: Floats,
    texture_points: Floats,
    normals: Floats,
    occluded: Floats,
    eye_angle: Floats,
    iris: Floats,
    sclera: Floats,
    vertex: Floats,
    sh: Floats,
    specular: float,
    direction: Floats,
    out: Floats,
) -> None:
    height, width = triangle.shape
    pixel = np.empty(4, np.float32)
    # Blinn's half vector between the light and the camera, which looks along -z.
    hx, hy, hz = direction[0], direction[1], direction[2] + 1
    length = np.sqrt(hx * hx + hy * hy + hz * hz)
    hx, hy, hz = hx / length, hy / length, hz / length
    for y in range(height):
        for x in range(width):
            t = triangle[y, x]
            if t < 0:
                continue
            w1, w2 = weights[y, x, 0], weights[y, x, 1]
            w0 = 1 - w1 - w2
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            kind = kinds[t]
            if kind in (PHOTO, SHEET, SKIN):
                px = w0 * texture_points[a, 0] + w1 * texture_points[b, 0] + w2 * texture_points[c, 0]
                py = w0 * texture_points[a, 1] + w1 * texture_points[b, 1] + w2 * texture_points[c, 1]
                _lookup(texture, px, py, pixel)
                if kind != SKIN:
                    for k in range(4):
                        out[y, x, k] = pixel[k]
                    continue
            nx = w0 * normals[a, 0] + w1 * normals[b, 0] + w2 * normals[c, 0]
            ny = w0 * normals[a, 1] + w1 * normals[b, 1] + w2 * normals[c, 1]
            nz = w0 * normals[a, 2] + w1 * normals[b, 2] + w2 * normals[c, 2]
            norm = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
            nx, ny, nz = nx * norm, ny * norm, nz * norm
            open_share = w0 * occluded[a] + w1 * occluded[b] + w2 * occluded[c]
            lit = _irradiance(sh, nx, ny, nz)
            facing = _irradiance(sh, 0.0, 0.0, 1.0)
            shine, sharpness = specular, 12.0
            if kind == SKIN:
                shine *= pixel[3]
            if kind == EYE:
                eye = 0 if a < 23021 else 1
                _eye(w0 * eye_angle[a] + w1 * eye_angle[b] + w2 * eye_angle[c], iris[eye], sclera, pixel)
                lit = 0.3 * lit + 0.7 * facing  # wet and translucent: weak shading
                shine, sharpness = 0.7, 250.0
            elif kind != SKIN:
                for k in range(3):
                    pixel[k] = w0 * vertex[a, k] + w1 * vertex[b, k] + w2 * vertex[c, k]
                if kind == TEETH:
                    lit = 0.1 * lit + 0.9 * facing  # translucent: dark edges look like braces
                    shine, sharpness = 0.08, 30.0
                elif kind == GUMS:
                    shine, sharpness = 0.15, 30.0
                elif kind == SOCKET:
                    shine = 0.0
                else:
                    shine = 0.1 * specular
            gloss = shine * max(0.0, nx * hx + ny * hy + nz * hz) ** sharpness * open_share
            for k in range(3):
                out[y, x, k] = pixel[k] * lit * open_share + gloss
            out[y, x, 3] = 1
