"""Crops of both eyes and of the mouth from head crops, at the positions that the head pose gives."""

from __future__ import annotations

import torch
from torch import Tensor

from megaportraits.ops.geometry import HEAD_HALF_CM, LEFT_EYE_CM, MOUTH_CM, RIGHT_EYE_CM
from megaportraits.ops.warping import Pose, crop_around, project


def component_windows(pose: Pose, *, eye_cm: float, mouth_cm: float) -> tuple[tuple[Tensor, Tensor], ...]:
    """The windows of left eye, right eye and mouth.

    Args:
        pose: the heads' poses.
        eye_cm: side of an eye's window on the head, centimetres.
        mouth_cm: side of the mouth's window on the head, centimetres.

    Returns:
        Centre (B, 2) and half side (B,) of each window, crop units.
    """
    points = torch.tensor([LEFT_EYE_CM, RIGHT_EYE_CM, MOUTH_CM], device=pose.scale.device)
    centers = project(points, pose).unbind(1)
    halves = [pose.scale * (side / 2 / HEAD_HALF_CM) for side in (eye_cm, eye_cm, mouth_cm)]
    return tuple(zip(centers, halves, strict=True))


def crop_components(
    images: Tensor, pose: Pose, *, eye_cm: float, mouth_cm: float, eye_size: int, mouth_size: int
) -> tuple[Tensor, Tensor]:
    """Cut eyes and mouth out of head crops.

    Args:
        images: (B, C, S, S), head crops.
        pose: the heads' poses.
        eye_cm: see `component_windows`.
        mouth_cm: see `component_windows`.
        eye_size: e, side of the eyes' crops, pixels.
        mouth_size: m, side of the mouths' crops, pixels.

    Returns:
        Eyes (2 B, C, e, e), the left ones, then the right ones mirrored; and mouths (B, C, m, m).
    """
    windows = component_windows(pose, eye_cm=eye_cm, mouth_cm=mouth_cm)
    sizes = (eye_size, eye_size, mouth_size)
    left, right, mouth = (crop_around(images, *window, size) for window, size in zip(windows, sizes, strict=True))
    return torch.cat([left, right.flip(-1)]), mouth
