"""Shape checks for public functions."""

from __future__ import annotations

from torch import Tensor

from megaportraits.errors import ShapeError


def check_shape(tensor: Tensor, name: str, *expected: int | str) -> None:
    """Check a tensor's shape against a pattern.

    Args:
        tensor: the tensor to check.
        name: the tensor's name in the error message.
        expected: one entry per axis. An int is an exact size. A string stands for any size; axes with the same string
            must have the same size.

    Raises:
        ShapeError: the shape differs; the message has the expected pattern and the actual shape.
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
