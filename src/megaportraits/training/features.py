"""Loss weights for eyes and mouth from the head pose alone, and the choice of visible irises.

Eyes and mouth are few pixels, but viewers notice them first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from megaportraits.data.augment import FEATURES_CM
from megaportraits.faces.outlines import RIGHT_EYE
from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.warping import Pose, project


def feature_map(pose: Pose, size: int, *, emphasis: float, eyes: float = 1.0) -> Tensor:
    """A weight map (B, 1, size, size): 1 + emphasis on the mouth, 1 + eyes * emphasis on the eyes, 1 elsewhere.

    Eyes and mouth are discs with soft edges, at their positions on a neutral head of this pose.
    """
    centers = (torch.arange(size, device=pose.scale.device) + 0.5) * (2 / size) - 1
    inside = pose.scale.new_zeros(len(pose.scale), 1, size, size)
    for middle, radius in FEATURES_CM:
        x, y = project(pose.scale.new_tensor([middle]), pose)[:, 0, :, None].unbind(1)  # (B, 1) each
        reach = (pose.scale * radius / HEAD_HALF_CM)[:, None, None]
        square = ((centers - x)[:, None, :] ** 2 + (centers - y)[:, :, None] ** 2) / reach**2
        factor = eyes if middle[0] else 1.0  # only the mouth has x = 0
        inside = torch.maximum(inside, factor * (2 - 2 * square).clamp(0, 1)[:, None])
    return 1 + emphasis * inside


OPEN_EYE = 0.15
"""Ratio of height to width of an eye's opening above which its iris counts as visible."""


def visible_irises(landmarks: Tensor) -> Tensor:
    """The landmarks (B, n, 2) of `faces.outlines.FEATURES`, with NaN for the irises of closed eyes."""
    count = len(RIGHT_EYE)
    out = landmarks.clone()
    for eye, iris in ((0, -2), (count, -1)):  # the first two loops, the last two points
        lids = landmarks[:, eye : eye + count]
        width = (lids[:, 0] - lids[:, count // 2]).norm(dim=-1)
        height = (lids[:, count // 4] - lids[:, -count // 4]).norm(dim=-1)
        out[:, iris] = torch.where((height > OPEN_EYE * width)[:, None], landmarks[:, iris], torch.nan)
    return out
