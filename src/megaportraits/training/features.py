"""Eyes and mouth in pictures of which no more than the head's pose is known: they are few pixels, and life."""

from __future__ import annotations

import torch
from torch import Tensor

from megaportraits.data.augment import FEATURES_CM
from megaportraits.faces.outlines import RIGHT_EYE
from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.warping import Pose, project


def feature_map(pose: Pose, size: int, *, emphasis: float, eyes: float = 1.0) -> Tensor:
    """A weight map (B, 1, size, size): the mouth counts 1 + emphasis, eyes 1 + eyes * emphasis, all else 1.

    Discs with soft edges around where a neutral head of this pose has them.
    """
    centers = (torch.arange(size, device=pose.scale.device) + 0.5) * (2 / size) - 1
    inside = pose.scale.new_zeros(len(pose.scale), 1, size, size)
    for middle, radius in FEATURES_CM:
        x, y = project(pose.scale.new_tensor([middle]), pose)[:, 0, :, None].unbind(1)  # (B, 1) each
        reach = (pose.scale * radius / HEAD_HALF_CM)[:, None, None]
        square = ((centers - x)[:, None, :] ** 2 + (centers - y)[:, :, None] ** 2) / reach**2
        factor = eyes if middle[0] else 1.0  # the mouth lies in the middle
        inside = torch.maximum(inside, factor * (2 - 2 * square).clamp(0, 1)[:, None])
    return 1 + emphasis * inside


OPEN_EYE = 0.15
"""Height to width of an opening between lids, from which on its iris is seen."""


def visible_irises(landmarks: Tensor) -> Tensor:
    """Landmarks (B, n, 2) of `faces.outlines.FEATURES` with NaN for the irises of closed eyes."""
    count = len(RIGHT_EYE)
    out = landmarks.clone()
    for eye, iris in ((0, -2), (count, -1)):  # the first two loops, the last two points
        lids = landmarks[:, eye : eye + count]
        width = (lids[:, 0] - lids[:, count // 2]).norm(dim=-1)
        height = (lids[:, count // 4] - lids[:, -count // 4]).norm(dim=-1)
        out[:, iris] = torch.where((height > OPEN_EYE * width)[:, None], landmarks[:, iris], torch.nan)
    return out
