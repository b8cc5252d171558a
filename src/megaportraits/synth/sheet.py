"""The sheet: hair, ears, neck and shoulders of a photograph as a grid attached to the fitted head."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from megaportraits.synth.blur import soften
from megaportraits.synth.raster import Bools, Floats, Fragments, Ints

GRID_STEP = 4
"""Pixels of the lift crop between grid points."""
_REACH_CM = 3.0  # distance over which a moving face moves its surroundings
_NEIGHBOURS = 6


@dataclass(frozen=True)
class Sheet:
    """A grid of points in head space that follows the mesh.

    Attributes:
        rest: (G, 3) cm, head space, positions in the photograph (with its expression, without its rotation).
        triangles: (T, 3) into the grid.
        attached: (K,) grid points that lie on the mesh.
        corners: (K, 3) mesh vertices of the triangle under each attached point.
        weights: (K, 3) barycentric.
        mesh_rest: (K, 3) mesh points under the attached ones, in the photograph.
        free: (F,) the other grid points.
        neighbours: (F, 6) indices into `attached`.
        pull: (F, 6) weights of the neighbours' displacements for a free point; zero beyond 3 cm.
    """

    rest: Floats
    triangles: Ints
    attached: Ints
    corners: Ints
    weights: Floats
    mesh_rest: Floats
    free: Ints
    neighbours: Ints
    pull: Floats

    def follow(self, mesh: Floats) -> Floats:
        """The grid points (G, 3) for another expression of the mesh (26719, 3)."""
        moved = (mesh[self.corners] * self.weights[..., None]).sum(1) - self.mesh_rest
        points = self.rest.copy()
        points[self.attached] += moved
        points[self.free] += (moved[self.neighbours] * self.pull[..., None]).sum(1)
        return points


def grid(size: int) -> tuple[Floats, Ints]:
    """Grid points (G, 2) in pixels of a crop, and triangles (T, 3)."""
    ticks = np.arange(0, size + 1, GRID_STEP, dtype=np.float32)
    points = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    index = np.arange(len(points)).reshape(len(ticks), len(ticks))
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    return points, np.concatenate([np.c_[a, c, b], np.c_[a, d, c]]).astype(np.int32)


def extend_depth(depth: Floats, known: Bools) -> Floats:
    """Depth (S, S) extrapolated from known pixels, smoother with distance."""
    mask = cv2.erode(known.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    total, filled = np.zeros_like(depth), np.zeros_like(depth)
    for sigma in (3, 8, 20, 60):
        weight = soften(mask, sigma) + 1e-9
        blurred = soften(depth * mask, sigma) / weight
        share = np.clip(weight * 4, 0, 1) * (1 - filled)
        total += share * blurred
        filled += share
    outside = total / np.maximum(filled, 1e-6)
    return cv2.GaussianBlur(np.where(mask > 0, depth, outside), (0, 0), 2.0)


def hang(
    points: Floats,
    triangles: Ints,
    rest: Floats,
    fragments: Fragments,
    mesh_triangles: Ints,
    mesh: Floats,
    px_per_cm: float,
) -> Sheet:
    """Attach a grid to a mesh.

    Args:
        points: (G, 2) grid points in pixels.
        triangles: (T, 3) of the grid that are kept.
        rest: (G, 3) cm, head space.
        fragments: the mesh, drawn at the crop's resolution.
        mesh_triangles: the triangles it was drawn with.
        mesh: (26719, 3) vertices of the photograph's expression, unturned.
        px_per_cm: of the crop.
    """
    size = fragments.triangle.shape[0]
    cell = np.clip(points.astype(int), 0, size - 1)
    under = fragments.triangle[cell[:, 1], cell[:, 0]]
    attached, free = np.flatnonzero(under >= 0), np.flatnonzero(under < 0)
    corners = mesh_triangles[under[attached]]
    two = fragments.weights[cell[attached, 1], cell[attached, 0]]
    weights = np.c_[1 - two.sum(1), two].astype(np.float32)
    found = cKDTree(points[attached]).query(points[free], k=_NEIGHBOURS)
    distance, neighbours = np.asarray(found[0]), np.asarray(found[1], np.int32)
    pull = 1 / (distance + 2) ** 2
    pull *= np.exp(-((distance.min(1) / px_per_cm / _REACH_CM) ** 2))[:, None] / pull.sum(1, keepdims=True)
    return Sheet(
        rest=rest.astype(np.float32),
        triangles=triangles,
        attached=attached.astype(np.int32),
        corners=corners,
        weights=weights,
        mesh_rest=(mesh[corners] * weights[..., None]).sum(1),
        free=free.astype(np.int32),
        neighbours=neighbours,
        pull=pull.astype(np.float32),
    )


def covered_inside(fragments: Fragments, face_outline: npt.NDArray[np.float32]) -> Bools:
    """Mask where a face mesh hides the sheet: its coverage with eye and mouth holes filled, eroded by a margin."""
    cover = fragments.covered().astype(np.uint8)
    contours, hierarchy = cv2.findContours(cover, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outline = cv2.convexHull(face_outline)
    for number, contour in enumerate(contours):
        middle = contour.reshape(-1, 2).mean(0)
        is_hole = hierarchy[0][number][3] >= 0
        if is_hole and cv2.pointPolygonTest(outline, (float(middle[0]), float(middle[1])), False) > 0:
            cv2.drawContours(cover, contours, number, 1, -1)
    cover = cv2.morphologyEx(cover, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    return np.asarray(cv2.erode(cover, np.ones((7, 7), np.uint8), borderValue=0) > 0)
