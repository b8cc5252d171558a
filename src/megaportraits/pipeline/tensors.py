"""Convert images and poses between numpy and torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.errors import ShapeError
from megaportraits.media.images import UInt8
from megaportraits.models.identity import Output
from megaportraits.models.source_skip import Flow
from megaportraits.ops.geometry import HeadPose
from megaportraits.ops.resample import fit_input, resize_images
from megaportraits.ops.warping import Pose

_FLOW_CELLS = 32
"""Cells along a side of `Rendering.flow`; a cell is 1 cm wide on the head."""


def pixels(image: UInt8) -> Tensor:
    """Convert uint8 (H, W, 3) to (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 255


def head_crop_tensor(image: UInt8, size: int, device: torch.device) -> Tensor:
    """Convert a head crop (N, N, 3) uint8 of any size to (1, 3, size, size) in [0, 1].

    Raises:
        ShapeError: the crop is not square, or not RGB.
    """
    if image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] != 3:
        raise ShapeError(f"Expected a square head crop (N, N, 3), got {image.shape}.")
    return resize_images(pixels(image).to(device), size)


def head_pose(pose: Pose) -> HeadPose:
    """The first pose of a batch as numpy arrays."""
    return HeadPose(
        rotation=pose.rotation[0].double().cpu().numpy(),
        translation=pose.translation[0].double().cpu().numpy(),
        scale=float(pose.scale[0]),
    )


def pose_batch(poses: Sequence[HeadPose], device: torch.device) -> Pose:
    """A batch of numpy poses as tensors."""
    return Pose(
        torch.tensor(np.stack([p.rotation for p in poses]), dtype=torch.float32, device=device),
        torch.tensor(np.stack([p.translation for p in poses]), dtype=torch.float32, device=device),
        torch.tensor([p.scale for p in poses], dtype=torch.float32, device=device),
    )


def flows(output: Output) -> list[npt.NDArray[np.float32] | None]:
    """`Rendering.flow` of every image of an output; None where the model has no source skip or predicts no alpha."""
    if output.view is None or output.alpha is None:
        return [None] * len(output.image)
    size = output.image.shape[-1]
    # Convert grid units (-1 and 1 at the centres of the outer pixels) to crop units (-1 and 1 at their borders).
    moved = output.view.flow.direct.float() * ((size - 1) / size)
    person = output.alpha.float()
    share = F.adaptive_avg_pool2d(person, _FLOW_CELLS)
    mean = F.adaptive_avg_pool2d(moved * person, _FLOW_CELLS) / share.clamp_min(1e-3)
    return list(torch.cat([mean, share], 1).permute(0, 2, 3, 1).cpu().numpy())


def moved_along(mask: Tensor, flow: Flow, size: int) -> Tensor:
    """Warp a mask of the source, (1, 1, n, n), along the flow into the outputs' views, (B, 1, size, size)."""
    fine = flow.grown(size)
    source = fit_input(mask, size)
    return fine.move(source.expand(len(fine.direct), -1, -1, -1))
