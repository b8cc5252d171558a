"""The protocol `self`: a person is driven by further frames of the same clip, so that the true picture is known.

The source is one frame of the clip, the drivers are others. The model sees the driver's head crop and renders
the source in it; the driver's crop itself is the truth. Beside the model stands the floor, the source laid over
each driver by a similarity transform. Motion is read from the outputs by the same landmark network that reads
the driver, and from the true crops too: that is the best a perfect output of this size could reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import FaceError
from megaportraits.evaluation.floors import aligned_copy
from megaportraits.evaluation.metrics import Agreement, agreement, psnr
from megaportraits.evaluation.regions import face_regions
from megaportraits.evaluation.signals import NETWORK, SIGNALS, signals_of
from megaportraits.faces.crop import Crop, extract, head_crop
from megaportraits.faces.detector import Face, FaceAnalyzer
from megaportraits.faces.pose import fit_pose
from megaportraits.faces.tracking import CropTracker
from megaportraits.media import VideoReader
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HeadPose, matrix_to_euler

NAME = "self"
STEP = 2
"""Every second frame of a clip is used: neighbours hardly differ."""
_SOURCE_SECONDS = 1.0
_GREY = 127.5
_DETECTION_ZOOM = 2
"""Small outputs are enlarged for the landmark network, which wants faces of more than a hundred pixels."""

P = TypeVar("P")


class Picture(Protocol):
    """What `Animator.drive` gives."""

    @property
    def premultiplied(self) -> npt.NDArray[np.float32]:
        """(S, S, 4) in [0, 1]: colours times alpha, and alpha."""


class Animator(Protocol[P]):
    """The measured system: `pipeline.Avatar`, or any other that can do these two things."""

    def encode(self, source: UInt8, /) -> P:
        """Remember the person of a photograph (H, W, 3)."""

    def drive(self, portrait: P, driver: UInt8, /, *, pose: HeadPose | None) -> Picture:
        """The person in the pose and with the expression of a driver's head crop (S, S, 3), in its coordinates.

        `pose` is the head's by its landmarks, crop coordinates: programs that follow faces know it.
        """


@dataclass(frozen=True)
class TrueFrame:
    """One driver frame: the picture that the model should make.

    Attributes:
        square: (S, S, 3) uint8, the head crop.
        crop: where it lies in the frame.
        face: the face in the whole frame, in its pixels.
    """

    square: UInt8
    crop: Crop
    face: Face

    @property
    def pose(self) -> HeadPose:
        """The head's pose by its landmarks, crop coordinates."""
        return fit_pose(self.face.landmarks).to_crop_pose(self.crop)


@dataclass(frozen=True)
class Clip:
    """A clip, read for the protocol.

    Attributes:
        name: of the file, without its suffix.
        photo: (H, W, 3) uint8, the source frame.
        face: the face in it.
        source_frame: its number in the file.
        frames: the drivers.
        lost: how many further frames would have been drivers but show no face.
    """

    name: str
    photo: UInt8
    face: Face
    source_frame: int
    frames: list[TrueFrame]
    lost: int


@dataclass(frozen=True)
class ClipResult:
    """What was measured on one clip.

    Attributes:
        name: of the clip.
        frames: number of drivers.
        lost: see `Clip`.
        source_frame: see `Clip`.
        metrics: values by full name, e.g. `self/psnr_mouth`; NaN where there is none.
        reasons: why a value is NaN, by the same names.
        pictures: rows for the contact sheet: `driver`, `floor` and `model` at some times, and one `source`.
    """

    name: str
    frames: int
    lost: int
    source_frame: int
    metrics: Mapping[str, float]
    reasons: Mapping[str, str]
    pictures: Mapping[str, list[UInt8]] = field(repr=False)


def read_clip(path: Path, analyzer: FaceAnalyzer, size: int, most: int) -> Clip:
    """Read a video for the protocol.

    The source is the most frontal and neutral of the frames of the first second; the drivers are the other
    frames, up to `most`. The largest face of the first frame that has one is followed.

    Args:
        path: the video.
        analyzer: finds the faces.
        size: side of the head crops.
        most: the largest number of drivers.

    Raises:
        MediaError: the file cannot be read.
        FaceError: it shows no face in the first second, or none after it.
    """
    tracker = CropTracker("follow")
    frames: list[TrueFrame] = []
    numbers: list[int] = []
    best: tuple[float, int, UInt8, Face] | None = None
    last: Face | None = None
    lost = 0
    for number, frame in enumerate(VideoReader(path)):
        if number % STEP:
            continue
        if len(frames) > most:  # one of them becomes the source
            break
        face = analyzer.track(frame.image, last) if last else next(iter(analyzer.detect(frame.image)), None)
        if face is None:
            lost += 1
            continue
        last = face
        crop = tracker.update(fit_pose(face.landmarks), frame.time)
        frames.append(TrueFrame(extract(frame.image, crop, size), crop, face))
        numbers.append(number)
        unrest = _unrest(face)
        if frame.time <= _SOURCE_SECONDS and (best is None or unrest < best[0]):
            best = (unrest, number, frame.image, face)
    if best is None or len(frames) < 2:
        raise FaceError(
            f"Expected a face in the first second of {path} and another after it, found {len(frames)} in all.",
            fix="Take a clip that begins with a well visible face.",
        )
    _, source, photo, face = best
    drivers = [true for number, true in zip(numbers, frames, strict=True) if number != source]
    return Clip(path.stem, photo, face, source, drivers, lost)


def evaluate_clip(
    animator: Animator[P],
    clip: Clip,
    analyzer: FaceAnalyzer,
    *,
    times: int = 5,
    progress: Callable[[], None] | None = None,
) -> ClipResult:
    """Measure the animator and the floor on a clip.

    Args:
        animator: the measured system.
        clip: from `read_clip`.
        analyzer: finds faces in outputs; it should not reject animals, since outputs may look like nothing.
        times: how many times the contact sheet shows.
        progress: called after each driver.

    Raises:
        FaceError: the animator finds no face in the source.
    """
    size = clip.frames[0].square.shape[0]
    portrait = animator.encode(clip.photo)
    errors: dict[str, list[float]] = {}
    outputs: dict[str, list[UInt8]] = {"driver": [], "floor": [], "model": []}
    for true in clip.frames:
        landmarks = true.face.landmarks
        made = {
            "driver": true.square,
            "floor": aligned_copy(clip.photo, clip.face.landmarks, landmarks, true.crop, size),
            "model": _over_grey(animator.drive(portrait, true.square, pose=true.pose)),
        }
        regions = face_regions(true.crop.image_to_crop(landmarks[:, :2]), size)
        for system, picture in made.items():
            outputs[system].append(picture)
            if system != "driver":
                for region, mask in regions.named().items():
                    name = f"{_prefix(system)}psnr_{region}"
                    errors.setdefault(name, []).append(psnr(picture, true.square, mask))
        if progress is not None:
            progress()
    metrics = {name: float(np.mean(values)) for name, values in errors.items()}
    reasons: dict[str, str] = {}
    truth = signals_of([true.face for true in clip.frames])
    for system, pictures in outputs.items():
        follow = _motion(truth, _redetect(pictures, analyzer), _prefix(system))
        metrics.update(follow[0])
        reasons.update(follow[1])
    shown = np.linspace(0, len(clip.frames) - 1, times).round().astype(int).tolist()
    sheet = {system: [pictures[index] for index in shown] for system, pictures in outputs.items()}
    sheet["source"] = [extract(clip.photo, head_crop(clip.face), size)]
    return ClipResult(clip.name, len(clip.frames), clip.lost, clip.source_frame, metrics, reasons, sheet)


def _prefix(system: str) -> str:
    """Metric names: the model's are plain, the floor's and the true crops' say so."""
    return {"model": f"{NAME}/", "floor": f"{NAME}/floor_", "driver": f"{NAME}/true_"}[system]


def _motion(
    truth: npt.NDArray[np.float64], faces: Sequence[Face | None], prefix: str
) -> tuple[dict[str, float], dict[str, str]]:
    """Agreement of the outputs' signals with the driver's, the share of outputs with a face, and reasons."""
    found = signals_of(faces)
    metrics = {f"{prefix}detected_{NETWORK}": float(np.mean([face is not None for face in faces]))}
    reasons = {}
    for index, (signal, (unit, least)) in enumerate(SIGNALS.items()):
        follows: Agreement = agreement(truth[:, index], found[:, index], least=least, unit=unit)
        names = f"{prefix}corr_{signal}_{NETWORK}", f"{prefix}gain_{signal}_{NETWORK}"
        metrics.update(zip(names, (follows.correlation, follows.gain), strict=True))
        if follows.reason:
            reasons.update(dict.fromkeys(names, follows.reason))
    return metrics, reasons


def _redetect(pictures: Sequence[UInt8], analyzer: FaceAnalyzer) -> list[Face | None]:
    """The face in each output, followed from the output before where there is one."""
    faces: list[Face | None] = []
    last: Face | None = None
    for picture in pictures:
        side = picture.shape[0] * _DETECTION_ZOOM
        large = np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
        face = analyzer.track(large, last) if last else next(iter(analyzer.detect(large)), None)
        last = face or last
        faces.append(face)
    return faces


def _unrest(face: Face) -> float:
    """How far a face is from looking at the camera with its eyes open and its mouth closed."""
    yaw, pitch, roll = matrix_to_euler(fit_pose(face.landmarks).rotation)
    turned = math.hypot(yaw, pitch, 0.5 * roll) / 25
    blink = 0.5 * (face.blendshape("eyeBlinkLeft") + face.blendshape("eyeBlinkRight"))
    return turned + blink + face.blendshape("jawOpen")


def _over_grey(picture: Picture) -> UInt8:
    premultiplied = picture.premultiplied
    mixed = premultiplied[..., :3] * 255 + _GREY * (1 - premultiplied[..., 3:])
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)
