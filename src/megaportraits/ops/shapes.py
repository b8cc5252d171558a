"""Shape checks for public boundaries."""

from __future__ import annotations

from torch import Tensor

from megaportraits.errors import ShapeError


def check_shape(tensor: Tensor, name: str, *expected: int | str) -> None:
    """Check a tensor's shape against a pattern.

    Args:
        tensor: the tensor to check.
        name: how the caller names it, for the message.
        expected: one entry per axis: an int is an exact size, a string names a free one
            (the same string twice must have the same size).

    Raises:
        ShapeError: with the expected pattern and the shape that came.
    """
    shape = tuple(tensor.shape)
    bound: dict[str, int] = {}
    ok = len(shape) == len(expected)
    for size, want in zip(shape, expected, strict=False):
        if isinstance(want, int):
            ok &= size == want
        else:
            ok &= bound.setdefault(want, size) == size
    if not ok:
        pattern = ", ".join(str(e) for e in expected)
        raise ShapeError(
            f"{name}: expected a tensor of shape ({pattern}), got {shape}",
            fix=f"Pass {name} with {len(expected)} axes in that order.",
        )
