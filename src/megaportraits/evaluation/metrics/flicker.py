"""Flicker: the difference of neighbouring frames of a video after motion compensation (warping error)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import ShapeError
from megaportraits.faces.regions import Mask
from megaportraits.media.images import UInt8

FLOW = "dis"
"""Name of the optical flow in metric names: OpenCV's DIS (Kroeger et al., ECCV 2016), preset medium."""


class FlowError:
    """Warping errors (Lai et al., ECCV 2018) under a video's own optical flow. Not thread-safe."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def between(self, before: UInt8, after: UInt8, mask: Mask) -> float:
        """Mean absolute difference in grey levels between a frame and the previous frame, warped onto it.

        Args:
            before: (H, W, 3), the previous frame.
            after: (H, W, 3), the next frame.
            mask: (H, W), the pixels to compare; pixels that come from outside the previous frame are left out.

        Returns:
            The error in [0, 255]; NaN if no pixels are left.

        Raises:
            ShapeError: the shapes do not fit.
        """
        if before.shape != after.shape or mask.shape != after.shape[:2]:
            raise ShapeError(f"Expected two frames and a mask of one size, got {before.shape}, {after.shape}.")
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (before, after)]
        flow = self._flow.calc(grey[1], grey[0], None)  # from each pixel of `after` to its position in `before`
        height, width = grey[0].shape
        y, x = np.mgrid[:height, :width].astype(np.float32)
        x, y = x + flow[..., 0], y + flow[..., 1]
        warped = cv2.remap(before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        seen = mask & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        if not seen.any():
            return math.nan
        return float(np.abs(warped[seen].astype(np.float64) - after[seen]).mean())

    def of(self, frames: Sequence[UInt8], masks: Sequence[Mask], numbers: Sequence[int]) -> npt.NDArray[np.float64]:
        """The errors (n - 1,) of a video's neighbouring frames.

        Args:
            frames: images (H, W, 3).
            masks: masks (H, W) of the face.
            numbers: the frames' numbers; if frames are missing between two neighbours, their error is NaN.
        """
        gaps = np.diff(np.asarray(numbers, np.int64))
        usual = int(np.min(gaps)) if len(gaps) else 0
        errors = [
            self.between(frames[i], frames[i + 1], masks[i] & masks[i + 1]) if gap == usual else math.nan
            for i, gap in enumerate(gaps)
        ]
        return np.array(errors, np.float64)
