"""The methods that an evaluation measures: our models, other programs' videos, baselines, and the true crops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

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
from megaportraits.ops.pictures import over, resize

P = TypeVar("P")

TRUE = "true crops"
COPY = "aligned copy"
LIFTED = "lifted"


class Method(Protocol):
    """Anything that turns a source and a driver into frames. To measure a new model, write one, or an `Animator`.

    Attributes:
        name: name in tables; unique in a report.
        settings: everything that the results depend on (weights, hashes), for the report and for resuming.
    """

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, str]: ...

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """Yield an image (n, n, 3) for each of the sample's frames, in the coordinates of the driver's head crop.

        Raises:
            FaceError, DataError, MediaError, WeightsError: the method cannot process this sample; the report shows the
                message.
        """


class RenderedPicture(Protocol):
    """The result of `Animator.drive`."""

    @property
    def premultiplied(self) -> npt.NDArray[np.float32]:
        """(S, S, 4) in [0, 1]: colours times alpha, and alpha."""


class Animator(Protocol[P]):
    """A model that encodes a source and then renders it for drivers, for example `pipeline.Avatar`."""

    def encode(self, source: UInt8, /) -> P:
        """Encode the person in a photograph (H, W, 3)."""

    def drive(
        self, portrait: P, driver: UInt8, /, *, pose: HeadPose | None, blendshapes: Blendshapes | None
    ) -> RenderedPicture:
        """Render the person with the pose and expression of a driver's head crop (S, S, 3), in its coordinates.

        Args:
            portrait: the result of `encode`.
            driver: the driver's head crop.
            pose: head pose from the driver's landmarks, in crop coordinates, if known.
            blendshapes: the driver's blendshapes, if known.
        """


class Animated(Generic[P]):
    """An animator as a method; results are composited over the source's background plate, as in `animate --crop`."""

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
    """Videos that another program wrote: `FOLDER/PROTOCOL/PAIR.mp4` or `FOLDER/PAIR.mp4`.

    A video has one square frame for each driver frame of the pair, in the coordinates of the driver's head crop
    (`megaportraits pairs --export` writes these crops as inputs).

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
    """A baseline: the source photograph, aligned with each driver face by a similarity transform."""

    name = COPY
    settings: Mapping[str, str] = {}  # never changed

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """See `Method`."""
        for true in sample.frames:
            yield aligned_copy(sample.photo, sample.face.landmarks, true.face.landmarks, true.crop, sample.size)


class TrueCrops:
    """The driver's own head crops: the upper limit of motion metrics, at the resolution of head crops."""

    name = TRUE
    settings: Mapping[str, str] = {}  # never changed

    def perform(self, sample: EvaluationSample, /) -> Iterator[UInt8]:
        """See `Method`."""
        yield from (true.square for true in sample.frames)


def over_plate(picture: npt.NDArray[np.float32], plate: UInt8) -> UInt8:
    """Composite a premultiplied image (n, n, 4) in [0, 1] over a background of any size."""
    return over(picture, resize(plate, picture.shape[0]))
