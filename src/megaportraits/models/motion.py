"""E_mtn of the paper (3.1, A.1, B.1): head pose and latent expression z of a source or driver image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import ModelConfig
from megaportraits.models.head_pose import HeadPoseNet
from megaportraits.nn.backbones import ResNet
from megaportraits.nn.blocks import BlockStyle
from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.resample import shrink
from megaportraits.ops.warping import Pose, crop_around, project

FACE_CENTER = (0.0, -0.5, 8.0)
"""Head point (centimetres) between eyes and mouth, on which the face-centred crop lies."""

FARTHEST = 4.0
"""Standard deviations at which a surprise ends: faces unlike all that a model has learned with are farther off."""


def crop_face(image: Tensor, pose: Pose, *, centimetres: float, size: int) -> Tensor:
    """The upright face-centred crop of heads with a known pose.

    Args:
        image: (B, 3, S, S), head crops.
        pose: where the heads are.
        centimetres: side of the crop on the head.
        size: side of the crop in pixels.

    Returns:
        (B, 3, size, size).
    """
    center = project(torch.tensor([FACE_CENTER]), pose)[:, 0]
    half_side = pose.scale * (centimetres / 2 / HEAD_HALF_CM)
    return crop_around(image, center, half_side, size)


@dataclass(frozen=True)
class Motion:
    """What moves: `pose` and `z` (B, n). Pose control and relative motion are edits of this."""

    pose: Pose
    z: Tensor

    def __getitem__(self, index: slice | Tensor) -> Motion:
        return Motion(self.pose[index], self.z[index])


class BlendshapeCorrection(nn.Module):
    """Corrects z by measured blendshape scores s: z + G (s - A z - b). Ours.

    A z + b is what z says the scores should be. A network that was trained on few people reads lips and eyes of others
    less surely than one trained on very many, whose blendshapes are at hand where faces are tracked anyway. A, b, the
    gain G and the surprises' deviations are found after training (`training.calibration`); until then G is zero.

    Args:
        z: size of z.
        count: how many scores.
        appends: whether what is left of the surprise follows z (`MotionConfig.append_blendshapes`).
    """

    readout: Tensor
    offset: Tensor
    gain: Tensor
    deviation: Tensor

    def __init__(self, z: int, count: int, *, appends: bool = False) -> None:
        super().__init__()
        self.appends = appends
        self.register_buffer("readout", torch.zeros(count, z))  # A
        self.register_buffer("offset", torch.zeros(count))  # b
        self.register_buffer("gain", torch.zeros(z, count))  # G
        if appends:
            self.register_buffer("deviation", torch.ones(count))

    def forward(self, z: Tensor, scores: Tensor | None) -> Tensor:
        """Z (B, z) and scores (B, count) in [0, 1], NaN where unknown, None where all are, to the corrected z.

        If it `appends`, (B, z + count): after the corrected z, how far the scores are from what that z says, in
        standard deviations, up to `FARTHEST`; 0 where they are unknown.
        """
        if scores is None:
            return F.pad(z, (0, len(self.offset))) if self.appends else z
        z = z + self.surprise(z, scores) @ self.gain.T
        if not self.appends:
            return z
        return torch.cat([z, (self.surprise(z, scores) / self.deviation).clamp(-FARTHEST, FARTHEST)], 1)

    def surprise(self, z: Tensor, scores: Tensor) -> Tensor:
        """How far scores are from what z says, (B, count); 0 where they are unknown."""
        left = scores.to(z) - (z @ self.readout.T + self.offset)
        return torch.where(left.isnan(), 0, left)


class MotionEncoder(nn.Module):
    """Two separate ResNet-18s: the head-pose network, and the expression network trained from scratch."""

    def __init__(self, config: ModelConfig, style: BlockStyle) -> None:
        super().__init__()
        m = config.motion
        self.face_size, self.face_cm, self.shrinkage = m.face_size, m.face_cm, config.image_size // config.coarse_size
        self.head_pose = HeadPoseNet(m.pose_width, m.pose_size, style)
        self.expression = ResNet(18, m.width, style)
        self.to_z = nn.Linear(self.expression.channels, m.z)
        count, appends = len(m.blendshapes), m.append_blendshapes
        self.correction = BlendshapeCorrection(m.z, count, appends=appends) if count else None

    def face_crop(self, image: Tensor, pose: Pose) -> Tensor:
        """The face-centred crop (B.1: "a center crop around the face"), (B, 3, face_size, face_size)."""
        return crop_face(image, pose, centimetres=self.face_cm, size=self.face_size)

    def encode_expression(self, image: Tensor, pose: Pose, scores: Tensor | None = None) -> Tensor:
        """Z (B, n) of an image (B, 3, S, S) whose head has this pose; no gradient goes into the crop's place.

        `scores` (B, m) are the config's blendshapes as they were measured, NaN where unknown; None: not measured.
        With `append_blendshapes`, (B, n + m): what they say beyond z follows it (`BlendshapeCorrection`).
        """
        crop = self.face_crop(self._coarse(image), pose.detach())
        z: Tensor = self.to_z(self.expression(crop).mean((2, 3)))
        return z if self.correction is None else self.correction(z, scores)

    def forward(self, image: Tensor, scores: Tensor | None = None) -> Motion:
        """Image (B, 3, S, S) in [0, 1], a head crop, to its motion; `scores` as for `encode_expression`."""
        pose = self.head_pose(self._coarse(image))
        return Motion(pose, self.encode_expression(image, pose, scores))

    def _coarse(self, image: Tensor) -> Tensor:
        return shrink(image, image.shape[-1] // self.shrinkage)
