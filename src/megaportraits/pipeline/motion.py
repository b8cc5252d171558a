"""Edits of a motion before it is rendered: relative motion, and whose head size to take (paper, B.6)."""

from __future__ import annotations

from dataclasses import replace

from megaportraits.models.motion import Motion
from megaportraits.ops.warping import Pose
from megaportraits.pipeline.options import ScaleFrom

_MAX_SCALE_CHANGE = 1.6
"""Beyond this factor a head does not fit its crop any more."""


def relative_motion(source: Motion, driver: Motion, neutral: Motion) -> Motion:
    """The source's motion plus the driver's change since its neutral frame.

    Rotation: `(R_d R_n^T) R_s`, the change in camera axes; translation and z: differences; scale: the ratio.
    With `driver == neutral` the source's own motion comes back exactly.
    """
    change = driver.pose.rotation @ neutral.pose.rotation.transpose(-1, -2)
    pose = Pose(
        rotation=change @ source.pose.rotation,
        translation=source.pose.translation + driver.pose.translation - neutral.pose.translation,
        scale=source.pose.scale * driver.pose.scale / neutral.pose.scale,
    )
    return Motion(pose, source.z + driver.z - neutral.z)


def edit_motion(
    source: Motion, driver: Motion, *, neutral: Motion | None = None, scale_from: ScaleFrom = ScaleFrom.DRIVER
) -> Motion:
    """The motion to render.

    Args:
        source: the source's own motion, batch 1.
        driver: the driver frame's motion, batch 1.
        neutral: the motion of the driver's neutral frame for relative motion; None for absolute motion.
        scale_from: whose head size the result keeps.
    """
    motion = driver if neutral is None else relative_motion(source, driver, neutral)
    scale = motion.pose.scale if scale_from is ScaleFrom.DRIVER else source.pose.scale
    low, high = source.pose.scale / _MAX_SCALE_CHANGE, source.pose.scale * _MAX_SCALE_CHANGE
    return replace(motion, pose=replace(motion.pose, scale=scale.clamp(min=low, max=high)))
