"""The Frechet distance of two sets of features (Dowson and Landau, 1982; FID when the features are Inception's)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megaportraits.errors import ShapeError

Features = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """What the distance needs of a set of features.

    Attributes:
        count: how many rows the set has.
        mean: (d,).
        root: (r, d) with `root' root` the covariance, r at most d.
    """

    count: int
    mean: Doubles
    root: Doubles


def moments(blocks: Iterable[Features]) -> Moments:
    """Mean and covariance of features that come in blocks, in memory for one block and a (d + 1, d + 1) matrix.

    With a column of ones before the features, their triangular factor R (QR) holds sqrt(n) and sqrt(n) times the mean
    in its first row and a root of the scatter around the mean in the others; R of all rows so far stands for them.

    Args:
        blocks: (n, d) each, at least one row in all.

    Raises:
        ShapeError: no rows, or blocks of different widths.
    """
    factor: Doubles | None = None
    count = 0
    for block in blocks:
        if block.ndim != 2 or (factor is not None and block.shape[1] + 1 != factor.shape[1]):
            width = "d" if factor is None else factor.shape[1] - 1
            raise ShapeError(f"Expected features (n, {width}), got {block.shape}.")
        rows = np.column_stack([np.ones(len(block)), block.astype(np.float64)])
        factor = np.asarray(np.linalg.qr(rows if factor is None else np.vstack([factor, rows]), mode="r"))
        count += len(block)
    if factor is None or count == 0:
        raise ShapeError("Expected features of at least one picture, got none.")
    return Moments(count, factor[0, 1:] / factor[0, 0], factor[1:, 1:] / math.sqrt(max(count - 1, 1)))


def frechet_distance(a: Features | Moments, b: Features | Moments) -> float:
    """`|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2))` of the normal distributions fitted to two sets.

    With `A = Xa' Xa`, `B = Xb' Xb` the non-zero eigenvalues of `A B` are the squared singular values of `Xa Xb'`, so
    that the trace of the root is that matrix's nuclear norm: no root of a singular matrix is ever taken, and a
    thousand pictures cost a matrix of a thousand rows whatever the width of the features.

    Args:
        a: (n, d) features, one row a picture; or their moments.
        b: (m, d), or moments.

    Returns:
        The distance, not negative; NaN for fewer than two pictures on a side.

    Raises:
        ShapeError: these are no two sets of features of one width.
    """
    for x in (a, b):
        if not isinstance(x, Moments) and x.ndim != 2:
            raise ShapeError(f"Expected features (n, d), got {x.shape}.")
        if (x.count if isinstance(x, Moments) else len(x)) < 2:
            return math.nan
    one, two = (x if isinstance(x, Moments) else moments([x]) for x in (a, b))
    if one.mean.shape != two.mean.shape:
        raise ShapeError(f"Expected features of one width, got {len(one.mean)} and {len(two.mean)}.")
    trace = np.linalg.svd(one.root @ two.root.T, compute_uv=False).sum()
    spread = np.square(one.root).sum() + np.square(two.root).sum() - 2 * trace
    return max(float(np.square(one.mean - two.mean).sum() + spread), 0.0)
