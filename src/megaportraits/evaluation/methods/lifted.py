"""The baseline "lifted": `synth` lifts the source to a 3D head and renders it with the motion fitted to the driver."""

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
from megaportraits.ops.pictures import composite
from megaportraits.synth.fit import HeadFit, LandmarkFitter
from megaportraits.synth.head import REGIONS, MorphableHead, eyeball_center
from megaportraits.synth.lift import Lifter
from megaportraits.synth.portraits import matted
from megaportraits.synth.stage import HeadMotion
from megaportraits.weights import sha256_of

_MAX_GAZE = 30.0
"""Limit of fitted gaze angles, degrees; larger angles are errors of the landmarks."""


class LiftedBaseline:
    """The source photograph on a morphable head, animated by coefficients that are fitted to each driver frame.

    Args:
        head: ICT-FaceKit as packed .npz or as its FaceXModel folder.
        matting: estimates the source's matte.

    Raises:
        DataError: the head model cannot be loaded.
    """

    name = LIFTED

    def __init__(self, head: Path, matting: Matting) -> None:
        model = MorphableHead.load(head)
        self.settings = {"head": sha256_of(head) if head.is_file() else head.name}
        self._lifter = Lifter(model)
        self._matting = matting

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """See `Method`; FaceError for sources that cannot be lifted (turned away or occluded)."""
        portrait = matted(sample.photo, sample.face, self._matting)
        lifted = self._lifter.lift(portrait.image, portrait.landmarks, portrait.matte, sample.pair.key)
        plate = sample.plate(self._matting).astype(np.float32)
        for true in sample.frames:
            motion = driver_motion(self._lifter.fitter, self._lifter.head, true)
            made = lifted.render(motion, sample.size, coords=False)
            yield composite(made.image, made.matte, plate)


def driver_motion(fitter: LandmarkFitter, head: MorphableHead, true: TrueFrame) -> HeadMotion:
    """Fit expression, gaze and head pose to a driver frame; the pose is in the coordinates of its head crop."""
    fit = fitter.fit(true.face.landmarks)
    gaze = fitted_gaze(fit, head, true.face.landmarks)
    return HeadMotion(fit.expression, gaze, crop_pose(fit, true.crop), np.eye(3))


def crop_pose(fit: HeadFit, crop: Crop) -> HeadPose:
    """Convert a fitted head pose to the coordinates of a crop of the same image."""
    origin = crop.image_to_crop(fit.origin)
    return HeadPose(fit.rotation, origin, fit.scale * HEAD_CROP_CM / crop.side)


def fitted_gaze(fit: HeadFit, head: MorphableHead, landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Gaze relative to the head: (2,), yaw and pitch in degrees, the mean of both eyes.

    The iris lies on the eyeball's surface. Its offset in the image from the projected centre of the eyeball, divided by
    the eyeball's radius, gives the two components of the gaze direction that are parallel to the image.
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
