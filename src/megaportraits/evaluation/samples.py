"""Reads a pair: the source image, and the driver's head crops, which all methods receive."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megaportraits.errors import DataError, FaceError
from megaportraits.evaluation.pairs import STEP, Pair
from megaportraits.faces.crop import extract, head_crop
from megaportraits.faces.detector import Face, FaceAnalyzer
from megaportraits.faces.inpainting import background_plate
from megaportraits.faces.matting import Matting
from megaportraits.faces.parsing import EARS, FACE, HAIR, region_mask
from megaportraits.faces.pose import fit_pose
from megaportraits.faces.regions import Mask, Regions, face_regions
from megaportraits.faces.tracking import CropTracker
from megaportraits.media import VideoReader, is_video, read_image
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import Crop, HeadPose, matrix_to_euler
from megaportraits.ops.pictures import resize

_SOURCE_SECONDS = 1.0
_STILL_FPS = 25.0
_PLATE_SIZE = 512


@dataclass(frozen=True)
class TrueFrame:
    """One driver frame.

    Attributes:
        number: number of the frame in its file.
        square: (S, S, 3) uint8, the head crop.
        crop: position of the head crop in the frame.
        face: the face in the whole frame, in its pixels.
        head: (S, S), mask of face, ears and hair for the paper's masked metrics; None where no metric uses it.
    """

    number: int
    square: UInt8
    crop: Crop
    face: Face
    head: Mask | None = None

    @property
    def pose(self) -> HeadPose:
        """The head pose from the landmarks, in crop coordinates."""
        return fit_pose(self.face.landmarks).to_crop_pose(self.crop)

    @cached_property
    def face_in_square(self) -> Face:
        """The face in the pixels of `square`."""
        factor = self.square.shape[0] / self.crop.side
        corner = np.array([*self.crop.corners[:2], 0.0])
        marks = ((self.face.landmarks - corner) * factor).astype(np.float32)
        box = (self.face.box - np.tile(corner[:2], 2)) * factor
        return Face(box.astype(self.face.box.dtype), marks, self.face.presence, self.face.blendshapes)

    @cached_property
    def points(self) -> npt.NDArray[np.float64]:
        """The landmarks (478, 2) in crop coordinates."""
        return self.crop.image_to_crop(self.face.landmarks[:, :2])

    @cached_property
    def regions(self) -> Regions:
        """The regions of face, mouth and eyes in the crop."""
        return face_regions(self.points, self.square.shape[0])


@dataclass(frozen=True)
class EvaluationSample:
    """A pair with its images.

    Attributes:
        pair: the pair.
        photo: (H, W, 3) uint8, the source image.
        face: the face in it.
        frames: the driver frames, with head crops of one size.
        lost: number of further driver frames in which no face was found.
        fps: frame rate of the used driver frames.
    """

    pair: Pair
    photo: UInt8
    face: Face
    frames: list[TrueFrame]
    lost: int
    fps: float

    @property
    def size(self) -> int:
        """Side of the head crops, pixels."""
        return int(self.frames[0].square.shape[0])

    @cached_property
    def source(self) -> UInt8:
        """The source's head crop (S, S, 3)."""
        return extract(self.photo, head_crop(self.face), self.size)

    def plate(self, matting: Matting) -> UInt8:
        """The background plate of the source's head crop (S, S, 3), for compositing methods that output alpha.

        It is made at 512 pixels at most: an inpainted background has no finer detail.
        """
        work = min(self.size, _PLATE_SIZE)
        crop = head_crop(self.face)
        square = extract(self.photo, crop, work)
        plate = background_plate(square, matting.matte(self.photo, self.face, crop, work))
        return resize(plate, self.size)


def read_sample(pair: Pair, analyzer: FaceAnalyzer, matting: Matting, size: int) -> EvaluationSample:
    """Read a pair. In the driver, the largest face of the first frame with a face is tracked.

    Args:
        pair: the pair.
        analyzer: finds faces.
        matting: estimates mattes, for the masked metrics of the protocol `self`.
        size: side of the head crops, pixels.

    Raises:
        MediaError: a file cannot be read.
        DataError: the source does not have the source frame.
        FaceError: there is no face in the source, or in no driver frame.
    """
    photo = source_picture(pair)
    face = analyzer.require(photo, f"the source {pair.source.name}")[0]
    tracker = CropTracker("follow")
    frames: list[TrueFrame] = []
    last: Face | None = None
    lost = 0
    same = pair.source_frame is not None and pair.source.resolve() == pair.driver.resolve()
    for number, time, image in _drivers(pair):
        if len(frames) >= pair.frames:
            break
        found = analyzer.track(image, last) if last else next(iter(analyzer.detect(image)), None)
        if found is None:
            lost += 1
            continue
        last = found
        crop = tracker.update(fit_pose(found.landmarks), time)
        if not (same and number == pair.source_frame):
            true = TrueFrame(number, extract(image, crop, size), crop, found)
            frames.append(replace(true, head=_head(true, image, matting)) if pair.protocol == "self" else true)
    if not frames:
        raise FaceError(
            f"Expected a face in the driver {pair.driver.name}, found none.",
            fix="Take a clip in which a face is well visible.",
        )
    fps = float(VideoReader(pair.driver).info.fps) if is_video(pair.driver) else _STILL_FPS
    return EvaluationSample(pair, photo, face, frames, lost, fps / pair.step)


def best_source_frame(path: Path, analyzer: FaceAnalyzer) -> int:
    """The number of the most frontal and neutral frame in a video's first second; every second frame is considered.

    Raises:
        MediaError: the file cannot be read.
        FaceError: there is no face in the first second.
    """
    best: tuple[float, int] | None = None
    last: Face | None = None
    for number, frame in enumerate(VideoReader(path)):
        if frame.time > _SOURCE_SECONDS and number > 0:
            break
        if number % STEP:
            continue
        face = analyzer.track(frame.image, last) if last else next(iter(analyzer.detect(frame.image)), None)
        last = face or last
        if face is not None and (best is None or _distance_from_neutral(face) < best[0]):
            best = (_distance_from_neutral(face), number)
    if best is None:
        raise FaceError(
            f"Expected a face in the first second of {path}, found none.",
            fix="Take a clip that begins with a well visible face.",
        )
    return best[1]


def source_picture(pair: Pair) -> UInt8:
    """The source image of a pair, (H, W, 3).

    Raises:
        MediaError: the file cannot be read.
        DataError: the source does not have the source frame.
    """
    if pair.source_frame is None:
        return read_image(pair.source)
    for number, frame in enumerate(VideoReader(pair.source)):
        if number == pair.source_frame:
            return frame.image
    raise DataError(
        f"{pair.name}: {pair.source} has no frame {pair.source_frame}.", fix="Correct source_frame in the manifest."
    )


def _drivers(pair: Pair) -> Iterator[tuple[int, float, UInt8]]:
    """Number, time and image of every possible driver frame, including the source frame."""
    if not is_video(pair.driver):
        yield 0, 0.0, read_image(pair.driver)
        return
    for number, frame in enumerate(VideoReader(pair.driver)):
        if number >= pair.first and (number - pair.first) % pair.step == 0:
            yield number, frame.time, frame.image


def _head(true: TrueFrame, image: UInt8, matting: Matting) -> Mask:
    """The mask of face, ears and hair in a driver's head crop."""
    alpha = matting.matte(image, true.face, true.crop, true.square.shape[0])
    labels = region_mask(true.square, np.rint(alpha * 255).astype(np.uint8), true.points, true.pose)
    return np.isin(labels, (FACE, EARS, HAIR))


def _distance_from_neutral(face: Face) -> float:
    """How far a face is from frontal and neutral: 0 for a frontal face with open eyes and a closed mouth."""
    yaw, pitch, roll = matrix_to_euler(fit_pose(face.landmarks).rotation)
    turned = math.hypot(yaw, pitch, 0.5 * roll) / 25
    blink = 0.5 * (face.blendshape("eyeBlinkLeft") + face.blendshape("eyeBlinkRight"))
    return turned + blink + face.blendshape("jawOpen")
