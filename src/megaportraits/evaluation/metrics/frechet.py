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
    """Mean and covariance of a set of features.

    Attributes:
        count: number of rows of the set.
        mean: (d,).
        root: (r, d), r at most d; `root' root` is the covariance.
    """

    count: int
    mean: Doubles
    root: Doubles


def moments(blocks: Iterable[Features]) -> Moments:
    """Mean and covariance of features that come in blocks, with memory for one block and a (d + 1, d + 1) matrix.

    The features get a column of ones in front. The triangular factor R of their QR decomposition then has sqrt(n) and
    sqrt(n) times the mean in its first row, and a root of the scatter matrix around the mean in the other rows. R of
    all rows so far replaces these rows when the next block is added.

    Args:
        blocks: arrays (n, d), with at least one row in total.

    Raises:
        ShapeError: there are no rows, or blocks have different widths.
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

    With `A = Xa' Xa` and `B = Xb' Xb`, the non-zero eigenvalues of `A B` are the squared singular values of `Xa Xb'`.
    So the trace of the root is the nuclear norm of `Xa Xb'`. This avoids the root of a singular matrix, and for a
    thousand images the matrix has a thousand rows, however wide the features are.

    Args:
        a: (n, d) features, one row per image; or their moments.
        b: (m, d) features, or their moments.

    Returns:
        The distance, not negative; NaN if a set has fewer than two images.

    Raises:
        ShapeError: `a` and `b` are not sets of features of the same width.
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
