"""The z-buffer against a brute-force reference."""

from __future__ import annotations

import numpy as np
import pytest

from megaportraits.synth.raster import rasterize, spherical_harmonics, vertex_normals

SIZE = 20


def reference(points: np.ndarray, triangles: np.ndarray, two_sided: np.ndarray) -> np.ndarray:
    """Nearest triangle of every pixel centre, by solving for barycentric weights; -1 where none."""
    out = np.full((SIZE, SIZE), -1)
    nearest = np.full((SIZE, SIZE), -np.inf)
    for t, corners in enumerate(points[triangles].astype(np.float64)):
        edges = np.stack([corners[1, :2] - corners[0, :2], corners[2, :2] - corners[0, :2]], 1)
        if np.linalg.det(edges) > 0 and not two_sided[t]:
            continue
        for y in range(SIZE):
            for x in range(SIZE):
                w1, w2 = np.linalg.solve(edges, [x + 0.5 - corners[0, 0], y + 0.5 - corners[0, 1]])
                if min(w1, w2, 1 - w1 - w2) < 0:
                    continue
                z = corners[0, 2] + w1 * (corners[1, 2] - corners[0, 2]) + w2 * (corners[2, 2] - corners[0, 2])
                if z > nearest[y, x]:
                    nearest[y, x], out[y, x] = z, t
    return out


@pytest.mark.parametrize("seed", range(3))
def test_every_pixel_shows_the_nearest_facing_triangle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = (rng.uniform(-4, 24, (24, 3))).astype(np.float32)
    triangles = np.arange(24).reshape(8, 3).astype(np.int32)
    two_sided = rng.random(8) < 0.5
    fragments = rasterize(points, triangles, SIZE, two_sided)
    assert np.array_equal(fragments.triangle, reference(points, triangles, two_sided))


def test_interpolation_is_exact_for_affine_attributes() -> None:
    points = np.array([[1, 1, 0], [3, 18, 5], [19, 4, 2]], np.float32)
    fragments = rasterize(points, np.array([[0, 1, 2]], np.int32), SIZE)
    values = fragments.interpolate(np.array([[0, 1, 2]], np.int32), points)
    y, x = np.nonzero(fragments.covered())
    assert len(y) > 50
    assert values[y, x, :2] == pytest.approx(np.c_[x, y] + 0.5, abs=1e-4)
    assert not values[~fragments.covered()].any()


def test_triangles_that_share_an_edge_leave_no_gap() -> None:
    points = np.array([[0, 0, 0], [20, 0, 0], [20, 20, 0], [0, 20, 0]], np.float32)
    fragments = rasterize(points, np.array([[0, 2, 1], [0, 3, 2]], np.int32), SIZE)
    assert fragments.covered().all()


def test_normals_of_a_ball_point_outward() -> None:
    up, around = np.meshgrid(np.linspace(0.1, 3, 20), np.linspace(0, 2 * np.pi, 40, endpoint=False), indexing="ij")
    ball = np.stack([np.sin(up) * np.cos(around), np.cos(up), np.sin(up) * np.sin(around)], -1).reshape(-1, 3)
    index = np.arange(800).reshape(20, 40)
    a, b, c, d = index[:-1], np.roll(index, -1, 1)[:-1], np.roll(index, -1, 1)[1:], index[1:]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))]).astype(np.int32)
    normals = vertex_normals(ball.astype(np.float32), triangles)
    inner = slice(40, -40)
    assert (normals[inner] * ball[inner]).sum(1).min() > 0.99


def test_harmonics_are_orthogonal_over_the_sphere() -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(200_000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    basis = spherical_harmonics(normals)
    gram = basis.T @ basis / len(basis)
    off = gram - np.diag(np.diag(gram))
    assert np.abs(off).max() < 0.02
