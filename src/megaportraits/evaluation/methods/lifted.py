"""The strong floor without learning: the source lifted by `synth`, re-rendered with the driver's fitted motion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megaportraits.evaluation.methods.base import LIFTED
from megaportraits.evaluation.samples import EvaluationSample, TrueFrame
from megaportraits.faces.landmarks import LEFT_IRIS, RIGHT_IRIS
from megaportraits.faces.matting import Matting
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HEAD_CROP_CM, Crop, HeadPose
from megaportraits.synth.fit import HeadFit, LandmarkFitter
from megaportraits.synth.head import REGIONS, MorphableHead, eyeball_center
from megaportraits.synth.lift import Lifter
from megaportraits.synth.portraits import matted
from megaportraits.synth.stage import HeadMotion
from megaportraits.weights import sha256_of

_MAX_GAZE = 30.0
"""Degrees beyond which a fitted gaze is an error of the landmarks."""


class LiftedBaseline:
    """The source's photograph on a morphable head, moved by the coefficients that are fitted to each driver frame.

    Args:
        head: ICT-FaceKit: packed .npz or its FaceXModel folder.
        matting: cuts the person out of the source.

    Raises:
        DataError: no such head.
    """

    name = LIFTED

    def __init__(self, head: Path, matting: Matting) -> None:
        model = MorphableHead.load(head)
        self.settings = {"head": sha256_of(head) if head.is_file() else head.name}
        self._lifter = Lifter(model)
        self._matting = matting

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """See `Method`; sources that cannot be lifted (turned away, hidden) raise FaceError."""
        portrait = matted(sample.photo, sample.face, self._matting)
        lifted = self._lifter.lift(portrait.image, portrait.landmarks, portrait.matte, sample.pair.key)
        plate = sample.plate(self._matting).astype(np.float32)
        for true in sample.frames:
            motion = driver_motion(self._lifter.fitter, self._lifter.head, true)
            made = lifted.render(motion, sample.size, coords=False)
            alpha = made.matte[..., None].astype(np.float32) / 255
            yield np.rint(made.image * alpha + plate * (1 - alpha)).astype(np.uint8)


def driver_motion(fitter: LandmarkFitter, head: MorphableHead, true: TrueFrame) -> HeadMotion:
    """Expression, gaze and pose of a driver frame, in its crop's coordinates."""
    fit = fitter.fit(true.face.landmarks)
    gaze = fitted_gaze(fit, head, true.face.landmarks)
    return HeadMotion(fit.expression, gaze, crop_pose(fit, true.crop), np.eye(3))


def crop_pose(fit: HeadFit, crop: Crop) -> HeadPose:
    """A fitted head's pose in the coordinates of a crop of the same picture."""
    origin = crop.image_to_crop(fit.origin)
    return HeadPose(fit.rotation, origin, fit.scale * HEAD_CROP_CM / crop.side)


def fitted_gaze(fit: HeadFit, head: MorphableHead, landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Where the eyes look relative to the head: (2,) degrees yaw and pitch, the mean of both.

    The iris lies on the eyeball's surface; its distance in the picture from the projected centre of the eyeball is
    the sideways part of the direction.
    """
    base = head.shape(fit.identity)
    angles = []
    for eye, iris in (("eye_R", RIGHT_IRIS), ("eye_L", LEFT_IRIS)):
        center = eyeball_center(base, eye)
        radius = float(np.ptp(base[REGIONS[eye]][:, 1])) / 2
        shift = (landmarks[iris, :2] - fit.project([center])[0]) * (1, -1) / (fit.scale * radius)
        shift = shift / max(1.0, float(np.linalg.norm(shift)))
        seen = np.array([*shift, np.sqrt(max(1 - float(shift @ shift), 0.0))])
        x, y, z = fit.rotation.T @ seen
        angles.append((np.degrees(np.arctan2(x, z)), -np.degrees(np.arcsin(np.clip(y, -1, 1)))))
    return np.clip(np.mean(angles, axis=0), -_MAX_GAZE, _MAX_GAZE).astype(np.float32)
