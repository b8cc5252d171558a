"""What is measured: our models, another method's videos, baselines that need no learning, and the true crops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import DataError
from megaportraits.evaluation.methods.baselines import aligned_copy
from megaportraits.evaluation.samples import EvaluationSample
from megaportraits.faces.detector import Blendshapes
from megaportraits.faces.matting import Matting
from megaportraits.media import VIDEO_SUFFIXES, VideoReader
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HeadPose

P = TypeVar("P")

TRUE = "true crops"
COPY = "aligned copy"
LIFTED = "lifted"


class Method(Protocol):
    """Anything that animates. To measure a new kind of model, write one of these, or an `Animator`.

    Attributes:
        name: as tables show it; unique in a report.
        settings: what its results depend on (weights, hashes), for the report and for resuming.
    """

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, str]: ...

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """A picture (n, n, 3) for each of the sample's frames, in the coordinates of the driver's head crop.

        Raises:
            FaceError, DataError, MediaError, WeightsError: this sample cannot be done; the report says why.
        """


class RenderedPicture(Protocol):
    """What `Animator.drive` gives."""

    @property
    def premultiplied(self) -> npt.NDArray[np.float32]:
        """(S, S, 4) in [0, 1]: colours times alpha, and alpha."""


class Animator(Protocol[P]):
    """A model with two methods: `pipeline.Avatar`, or any other that can do these two things."""

    def encode(self, source: UInt8, /) -> P:
        """Remember the person of a photograph (H, W, 3)."""

    def drive(
        self, portrait: P, driver: UInt8, /, *, pose: HeadPose | None, blendshapes: Blendshapes | None
    ) -> RenderedPicture:
        """The person in the pose and with the expression of a driver's head crop (S, S, 3), in its coordinates.

        Programs that follow faces know `pose`, the head's by its landmarks, crop coordinates, and `blendshapes`.
        """


class Animated(Generic[P]):
    """An animator as a method; its mattes lie over the continued background of the source, as `animate --crop`."""

    def __init__(self, name: str, animator: Animator[P], settings: Mapping[str, str], matting: Matting) -> None:
        self.name = name
        self.settings = dict(settings)
        self._animator = animator
        self._matting = matting

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """See `Method`."""
        portrait = self._animator.encode(sample.photo)
        plate = sample.plate(self._matting)
        for true in sample.frames:
            drawn = self._animator.drive(portrait, true.square, pose=true.pose, blendshapes=true.face.blendshapes)
            yield over_plate(drawn.premultiplied, plate)


class VideoFolder:
    """Results that another method wrote: `FOLDER/PROTOCOL/PAIR.mp4`, or `FOLDER/PAIR.mp4`, one frame for each driver
    frame of the pair, square, in the coordinates of the driver's head crop (`megaportraits pairs --export` writes
    these crops as inputs).

    Raises:
        DataError: the folder is missing.
    """

    def __init__(self, name: str, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"{name}: expected a folder of videos at {folder}, found none.", fix="Check the path.")
        self.name = name
        self.settings = {"videos": folder.name}
        self._folder = folder

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """See `Method`."""
        path = self._find(sample)
        count = 0
        for frame in VideoReader(path):
            height, width = frame.image.shape[:2]
            if height != width:
                raise DataError(
                    f"{path}: expected square frames, got {width} x {height}.",
                    fix="Give what the method made of the driver's head crop.",
                )
            count += 1
            if count <= len(sample.frames):
                yield frame.image
        if count != len(sample.frames):
            raise DataError(
                f"{path}: expected {len(sample.frames)} frames, one for each driver frame, got {count}.",
                fix="Make the videos from what `megaportraits pairs --export` writes.",
            )

    def _find(self, sample: EvaluationSample) -> Path:
        pair = sample.pair
        for folder in (self._folder / pair.protocol, self._folder):
            for suffix in VIDEO_SUFFIXES:
                path = folder / f"{pair.key}{suffix}"
                if path.is_file():
                    return path
        raise DataError(
            f"{self.name} has no video {pair.key}.mp4 in {self._folder}.", fix="Videos are named after pairs."
        )


class AlignedCopy:
    """The floor that everything must beat: the source photograph laid over each driver face by a similarity."""

    name = COPY
    settings: Mapping[str, str] = {}  # never changed

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """See `Method`."""
        for true in sample.frames:
            yield aligned_copy(sample.photo, sample.face.landmarks, true.face.landmarks, true.crop, sample.size)


class TrueCrops:
    """The driver's own head crops: what motion metrics reach when nothing is lost but pixels."""

    name = TRUE
    settings: Mapping[str, str] = {}  # never changed

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """See `Method`."""
        yield from (true.square for true in sample.frames)


def over_plate(picture: npt.NDArray[np.float32], plate: UInt8) -> UInt8:
    """A premultiplied picture (n, n, 4) in [0, 1] over a background of any size."""
    under = resized(plate, picture.shape[0]).astype(np.float32)
    mixed = picture[..., :3] * 255 + under * (1 - picture[..., 3:])
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def resized(picture: UInt8, size: int) -> UInt8:
    """A square picture (n, n, 3) at another size: bicubic when it grows (the paper's baseline), averaged when not."""
    if picture.shape[0] == size:
        return picture
    how = cv2.INTER_CUBIC if size > picture.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (size, size), interpolation=how), np.uint8)
