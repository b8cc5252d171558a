"""Supervision of E_mtn by labels: head-pose loss and expression readout. Not in the paper; off in its configs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from megaportraits.data.batches import MeasuredImage
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.ops.geometry import geodesic_distance
from megaportraits.ops.warping import Pose


def pose_loss(predicted: Pose, labels: Pose) -> Tensor:
    """Geodesic angle (radians) plus L1 of translation (crop units) and of log scale."""
    angle = geodesic_distance(predicted.rotation, labels.rotation).mean()
    shift = (predicted.translation - labels.translation).abs().sum(-1).mean()
    return angle + shift + (predicted.scale.log() - labels.scale.log()).abs().mean()


READOUT_EMPHASIS = ("jawOpen", "eyeBlink", "mouthSmile", "mouthPucker")
"""The expression labels that viewers notice first; they (and the gaze) have five times the weight of others."""


def readout_weights(names: tuple[str, ...]) -> Tensor:
    """(len(names) + 2,): the weight of every label of the readout; the last two are the gaze."""
    return torch.tensor([5.0 if name.startswith(READOUT_EMPHASIS) else 1.0 for name in names] + [5.0, 5.0])


def readout_loss(predicted: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Weighted squared error of the known (not NaN) labels, summed over labels, averaged over the batch."""
    known = ~labels.isnan()
    error = (predicted.float() - labels.nan_to_num()).square() * known * weight
    return error.sum(1).mean()


def measured_blendshapes(images: Sequence[MeasuredImage], names: tuple[str, ...]) -> Tensor | None:
    """The blendshapes for `infer_motion`, (R B, n): all samples of the first images, then of the next.

    Args:
        images: R times B images, for example the sources, then the targets.
        names: the model's blendshapes, by ARKit's names. If there are none, the result is None.
    """
    if not names:
        return None
    measured = torch.cat([image.blendshapes for image in images])
    return measured[:, [BLENDSHAPE_NAMES.index(name) for name in names]]
