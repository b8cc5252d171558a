"""The Frechet distance of two sets of features (Dowson and Landau, 1982; FID when the features are Inception's)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from megaportraits.errors import ShapeError

Features = npt.NDArray[np.floating]


def frechet_distance(a: Features, b: Features) -> float:
    """`|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2))` of the normal distributions fitted to two sets.

    With `A = Xa' Xa`, `B = Xb' Xb` the non-zero eigenvalues of `A B` are the squared singular values of `Xa Xb'`, so
    that the trace of the root is that matrix's nuclear norm: no root of a singular matrix is ever taken, and a
    thousand pictures cost a matrix of a thousand rows whatever the width of the features.

    Args:
        a: (n, d) features, one row a picture.
        b: (m, d).

    Returns:
        The distance, not negative; NaN for fewer than two pictures on a side.

    Raises:
        ShapeError: these are no two sets of features of one width.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ShapeError(f"Expected features (n, d) and (m, d), got {a.shape} and {b.shape}.")
    if len(a) < 2 or len(b) < 2:
        return math.nan
    mean_a, mean_b = (x.mean(0, dtype=np.float64) for x in (a, b))
    root_a, root_b = (_root(x - mean) for x, mean in ((a, mean_a), (b, mean_b)))
    trace = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    spread = np.square(root_a).sum() + np.square(root_b).sum() - 2 * trace
    return max(float(np.square(mean_a - mean_b).sum() + spread), 0.0)


def _root(centered: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A matrix X of at most d rows with X' X the covariance."""
    root = centered / math.sqrt(len(centered) - 1)
    return np.asarray(np.linalg.qr(root, mode="r")) if len(root) > root.shape[1] else root
