"""Alpha compositing of image tensors."""

from __future__ import annotations

from torch import Tensor


def composite(image: Tensor, matte: Tensor, background: Tensor) -> Tensor:
    """Composite straight colours over a background.

    Args:
        image: (B, 3, H, W).
        matte: (B, 1, H, W) in [0, 1].
        background: colours that are, or broadcast to, (B, 3, H, W).
    """
    return image * matte + background * (1 - matte)


def over(premultiplied: Tensor, matte: Tensor, background: Tensor) -> Tensor:
    """Composite colours that are already multiplied by the matte over a background; arguments as `composite`'s."""
    return premultiplied + background * (1 - matte)
