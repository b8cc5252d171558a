"""Edit a motion before rendering: relative motion, and control of pose and expression (paper, B.6)."""

from __future__ import annotations

import torch
from torch import Tensor

from megaportraits.errors import ConfigError
from megaportraits.models.motion import Motion
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.ops.warping import Pose
from megaportraits.pipeline.options import MotionMode, MotionOptions, RestExpression, ScaleFrom, TranslationFrom

_AS_DRIVEN = MotionOptions()

_MAX_SCALE_CHANGE = 1.6
"""Largest factor by which the head's scale may change. A larger head would not fit its crop."""


def relative_motion(source: Motion, driver: Motion, neutral: Motion) -> Motion:
    """The source's motion plus the driver's change since its neutral frame.

    Rotation: `(R_d R_n^T) R_s`, the change in camera axes; translation and z: differences; scale: the ratio.
    With `driver == neutral` the result is exactly the source's own motion.
    """
    change = driver.pose.rotation @ neutral.pose.rotation.transpose(-1, -2)
    pose = Pose(
        rotation=change @ source.pose.rotation,
        translation=source.pose.translation + driver.pose.translation - neutral.pose.translation,
        scale=source.pose.scale * driver.pose.scale / neutral.pose.scale,
    )
    return Motion(pose, source.expression + driver.expression - neutral.expression)


def edit_motion(
    source: Motion, driver: Motion, options: MotionOptions = _AS_DRIVEN, *, neutral: Motion | None = None
) -> Motion:
    """The motion to render.

    Args:
        source: the source's own motion, batch 1.
        driver: the driver frame's motion, batch 1.
        options: see `MotionOptions`.
        neutral: the motion of the driver's neutral frame; needed where `options.needs_neutral`.

    Raises:
        ConfigError: `neutral` is needed and missing.
    """
    change = driver
    if options.needs_neutral:
        if neutral is None:
            raise ConfigError(
                "neutral: expected the motion of the driver's neutral frame, got None",
                fix="Give one for relative motion and for the source's rest expression; Avatar.animate finds it.",
            )
        change = relative_motion(source, driver, neutral)
    pose = change.pose if options.motion is MotionMode.RELATIVE else driver.pose
    full = (change if options.rest is RestExpression.SOURCE else driver).expression
    # Linear interpolation from the source's own expression: exactly that at strength 0, exactly `full` at 1.
    strength = options.expression_strength
    expression = full if strength == 1 else source.expression.lerp(full, strength)
    return Motion(_edit_pose(source.pose, pose, options), expression)


def _edit_pose(source: Pose, pose: Pose, options: MotionOptions) -> Pose:
    """The pose with the scale, translation and rotation that the options choose."""
    scale = pose.scale if options.scale_from is ScaleFrom.DRIVER else source.scale
    low, high = source.scale / _MAX_SCALE_CHANGE, source.scale * _MAX_SCALE_CHANGE
    return Pose(
        rotation=_turned(pose.rotation, options),
        translation=pose.translation if options.translation_from is TranslationFrom.DRIVER else source.translation,
        scale=scale.clamp(min=low, max=high),
    )


def _turned(rotation: Tensor, options: MotionOptions) -> Tensor:
    """Rotations (B, 3, 3), made frontal and turned about the camera's axes where the options ask for it."""
    if options.frontal:
        rotation = torch.eye(3, dtype=rotation.dtype, device=rotation.device).expand_as(rotation)
    if not (options.yaw or options.pitch or options.roll):
        return rotation
    turn = euler_to_matrix(options.yaw, options.pitch, options.roll)
    return torch.tensor(turn, dtype=rotation.dtype, device=rotation.device) @ rotation
