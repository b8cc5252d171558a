"""Convert pictures and poses to the input arrays of graphs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from megaportraits.ops.geometry import HeadPose

Float = npt.NDArray[np.float32]


def image_array(image: npt.NDArray[np.uint8]) -> Float:
    """(S, S, 3) uint8 to (1, 3, S, S) float32 in [0, 1]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def pose_arrays(pose: HeadPose) -> dict[str, Float]:
    """A pose as inputs of graphs with pose "landmarks": (1, 3, 3), (1, 2), (1,)."""
    return {
        "rotation": pose.rotation[None].astype(np.float32),
        "translation": pose.translation[None].astype(np.float32),
        "scale": np.array([pose.scale], np.float32),
    }
