"""E_mtn of the paper (3.1, A.1, B.1): head pose and latent expression z of a source or driver image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from megaportraits.config import ModelConfig
from megaportraits.errors import ShapeError
from megaportraits.models.head_pose import HeadPoseNet
from megaportraits.nn.backbones import ResNet
from megaportraits.nn.blocks import BlockStyle
from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.resample import shrink
from megaportraits.ops.warping import Pose, crop_around, project

FACE_CENTER = (0.0, -0.5, 8.0)
"""Head point (centimetres) between eyes and mouth, the centre of the face crop."""

MAX_RESIDUAL_SIGMA = 4.0
"""Blendshape residuals are clamped to this many standard deviations, in training and at inference."""


def crop_face(image: Tensor, pose: Pose, *, centimetres: float, size: int) -> Tensor:
    """The upright face crop of heads with a known pose.

    Args:
        image: (B, 3, S, S), head crops.
        pose: the heads' poses.
        centimetres: side of the face crop on the head.
        size: side of the face crop in pixels.

    Returns:
        (B, 3, size, size).
    """
    center = project(torch.tensor([FACE_CENTER]), pose)[:, 0]
    half_side = pose.scale * (centimetres / 2 / HEAD_HALF_CM)
    return crop_around(image, center, half_side, size)


@dataclass(frozen=True)
class Expression:
    """The expression of a face: everything of its motion that is not head pose.

    Attributes:
        z: (B, n), E_mtn's latent code.
        residual: (B, m), the blendshape residuals: measured blendshapes minus their prediction from z, in standard
            deviations, in [-`MAX_RESIDUAL_SIGMA`, `MAX_RESIDUAL_SIGMA`], 0 where unknown. None for models without
            `MotionConfig.append_blendshapes`.
    """

    z: Tensor
    residual: Tensor | None = None

    @property
    def vector(self) -> Tensor:
        """The generators' input, (B, `MotionConfig.expression_size`): z, then the residuals if there are any."""
        return self.z if self.residual is None else torch.cat([self.z, self.residual], 1)

    @staticmethod
    def cat(expressions: Sequence[Expression]) -> Expression:
        """Several expressions of one model in one batch."""
        residuals = [e.residual for e in expressions if e.residual is not None]
        return Expression(torch.cat([e.z for e in expressions]), torch.cat(residuals) if residuals else None)

    def __getitem__(self, index: slice | Tensor) -> Expression:
        return Expression(self.z[index], None if self.residual is None else self.residual[index])

    def __add__(self, other: Expression) -> Expression:
        return self._with(other, torch.add)

    def __sub__(self, other: Expression) -> Expression:
        return self._with(other, torch.sub)

    def lerp(self, end: Expression, weight: float) -> Expression:
        """Linear interpolation: this expression at weight 0, `end` at 1; larger weights extrapolate."""
        return self._with(end, lambda a, b: torch.lerp(a, b, weight))

    def _with(self, other: Expression, operation: Callable[[Tensor, Tensor], Tensor]) -> Expression:
        if self.residual is None and other.residual is None:
            return Expression(operation(self.z, other.z))
        if self.residual is None or other.residual is None:
            raise ShapeError("Expected expressions of one model, got one with blendshape residuals and one without.")
        return Expression(operation(self.z, other.z), operation(self.residual, other.residual))


@dataclass(frozen=True)
class Motion:
    """Head pose and expression of a batch of images. Pose control and relative motion edit this."""

    pose: Pose
    expression: Expression

    @staticmethod
    def cat(motions: Sequence[Motion]) -> Motion:
        """Several motions of one model in one batch."""
        return Motion(Pose.cat([m.pose for m in motions]), Expression.cat([m.expression for m in motions]))

    def __getitem__(self, index: slice | Tensor) -> Motion:
        return Motion(self.pose[index], self.expression[index])

    def __len__(self) -> int:
        return len(self.expression.z)


class BlendshapeCorrection(nn.Module):
    """Corrects z by measured blendshapes s: z + G (s - A z - b). Ours.

    A z + b predicts blendshapes from z. An expression network trained on few people reads lips and eyes of other people
    less well than MediaPipe's network, which was trained on very many people. Face tracking computes its blendshapes
    anyway. Calibration
    (`training.calibration`) fits A, b, the gain G and the standard deviations; until then G is zero.

    Args:
        z: size of z.
        count: how many blendshapes.
        appends: whether expressions have residuals (`MotionConfig.append_blendshapes`).
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

    def forward(self, z: Tensor, blendshapes: Tensor | None) -> Expression:
        """The corrected z and, if `appends` is true, its blendshape residuals.

        Args:
            z: (B, n), from the expression network.
            blendshapes: (B, count) in [0, 1], NaN where unknown; None if all are unknown.
        """
        if blendshapes is None:
            return Expression(z, z.new_zeros(len(z), len(self.offset)) if self.appends else None)
        z = z + self.residual(z, blendshapes) @ self.gain.T
        if not self.appends:
            return Expression(z)
        sigmas = self.residual(z, blendshapes) / self.deviation
        return Expression(z, sigmas.clamp(-MAX_RESIDUAL_SIGMA, MAX_RESIDUAL_SIGMA))

    def residual(self, z: Tensor, blendshapes: Tensor) -> Tensor:
        """Blendshapes minus their prediction from z, (B, count); 0 where they are unknown."""
        difference = blendshapes.to(z) - (z @ self.readout.T + self.offset)
        return torch.where(difference.isnan(), 0, difference)


class MotionEncoder(nn.Module):
    """Two separate ResNet-18s: the head-pose network, and the expression network trained from scratch.

    All code that computes motion from images calls `infer_motion`, or `encode_pose` for poses alone.
    """

    def __init__(self, config: ModelConfig, style: BlockStyle) -> None:
        super().__init__()
        m = config.motion
        self.config = config
        self.head_pose = HeadPoseNet(m.pose_width, m.pose_size, style)
        self.expression = ResNet(18, m.width, style)
        self.to_z = nn.Linear(self.expression.channels, m.z)
        count, appends = len(m.blendshapes), m.append_blendshapes
        self.correction = BlendshapeCorrection(m.z, count, appends=appends) if count else None

    def forward(self, images: Tensor, *, pose: Pose | None = None, blendshapes: Tensor | None = None) -> Motion:
        """See `infer_motion`."""
        pose = self.encode_pose(images) if pose is None else pose
        z = self.to_z(self.expression(self.face_crop(self._coarse(images), pose.detach())).mean((2, 3))).float()
        return Motion(pose, Expression(z) if self.correction is None else self.correction(z, blendshapes))

    def encode_pose(self, images: Tensor) -> Pose:
        """Head poses from the head-pose network; `images` as for `infer_motion`."""
        pose: Pose = self.head_pose(self._coarse(images))
        return pose

    def face_crop(self, image: Tensor, pose: Pose) -> Tensor:
        """The face crop (B.1: "a center crop around the face"), (B, 3, face_size, face_size)."""
        m = self.config.motion
        return crop_face(image, pose, centimetres=m.face_cm, size=m.face_size)

    def _coarse(self, images: Tensor) -> Tensor:
        return shrink(images, self.config.coarse_side(images.shape[-1]))


class SeesMotion(Protocol):
    """A model with a motion encoder."""

    @property
    def motion(self) -> MotionEncoder: ...


def infer_motion(
    model: SeesMotion, images: Tensor, pose: Pose | None = None, blendshapes: Tensor | None = None
) -> Motion:
    """The motion of head crops. Training and inference both use this function for every motion from an image.

    Args:
        model: the model whose E_mtn is used.
        images: (B, 3, S, S) in [0, 1], head crops.
        pose: the heads' poses if they are known; None computes them with the head-pose network. The pose also places
            the face crop; no gradient flows through that position.
        blendshapes: (B, m), the blendshapes that `MotionConfig.blendshapes` names, NaN where unknown; None if all are
            unknown.
    """
    motion: Motion = model.motion(images, pose=pose, blendshapes=blendshapes)
    return motion
