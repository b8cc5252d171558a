"""Pictures and poses of numpy as torch's, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HeadPose
from megaportraits.ops.warping import Pose


def pixels(image: UInt8) -> Tensor:
    """uint8 (H, W, 3) to (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 255


def head_pose(pose: Pose) -> HeadPose:
    """The first pose of a batch in numpy."""
    return HeadPose(
        rotation=pose.rotation[0].double().cpu().numpy(),
        translation=pose.translation[0].double().cpu().numpy(),
        scale=float(pose.scale[0]),
    )


def pose_batch(poses: Sequence[HeadPose], device: torch.device) -> Pose:
    """Poses in numpy as a batch."""
    return Pose(
        torch.tensor(np.stack([p.rotation for p in poses]), dtype=torch.float32, device=device),
        torch.tensor(np.stack([p.translation for p in poses]), dtype=torch.float32, device=device),
        torch.tensor([p.scale for p in poses], dtype=torch.float32, device=device),
    )
