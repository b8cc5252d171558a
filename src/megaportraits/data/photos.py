"""Training pairs from still photographs (4.5): two random crops of one photograph, and a driver of another person.

The paper: "We cannot form source-driver pairs that only differ in their motion". The two views of a photograph differ
only in position, size and roll of the head, which are known exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from megaportraits.data.batches import MeasuredImage, PhotoBatch
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ClipIndex
from megaportraits.data.dataset import SampleDataset, channels_first, pose_fields, read_or_redraw
from megaportraits.data.pairs import blendshape_labels
from megaportraits.errors import DataError
from megaportraits.ops.geometry import HeadPose, euler_to_matrix
from megaportraits.ops.pictures import resize


@dataclass(frozen=True)
class View:
    """A square region of a head crop.

    Attributes:
        center: (2,), crop units, y down.
        half_side: crop units; 1 is as wide as the crop.
        roll: degrees, counter-clockwise for the viewer: rotation of the head in the view.
    """

    center: npt.NDArray[np.float64]
    half_side: float
    roll: float

    def moved(self, labels: FrameLabels) -> HeadPose:
        """The head pose in the view."""
        turn = euler_to_matrix(0, 0, self.roll)
        in_plane = turn[:2, :2].T  # with y down, angles have the opposite sign
        return HeadPose(
            turn @ labels.rotation,
            in_plane @ (labels.translation - self.center) / self.half_side,
            labels.scale / self.half_side,
        )

    def extract(self, image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
        """Resample the view from a square image (n, n) or (n, n, 3); outside the image its border is repeated."""
        n = image.shape[0]
        shrink = n * self.half_side / size
        if shrink > 1.5:  # average first: cubic sampling would skip pixels, which gives noise
            n = round(size * 1.2 / self.half_side)
            image = resize(image, n)
        angle = np.radians(self.roll)
        # From view to image: first in crop units, then in OpenCV's coordinates, where pixel centres are integers.
        linear = self.half_side * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        step = linear * n / size
        offset = (self.center + 1) * n / 2 - step @ np.full(2, (size - 1) / 2) - 0.5
        matrix = np.column_stack([step, offset])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE))


class PhotoDataset(SampleDataset[PhotoBatch]):
    """Item k: two views of one photograph and a view of another person's, drawn by a generator seeded with (seed, k).

    Args:
        folder: folder with shards of clips; of a clip with several frames, a random frame serves as photograph.
        length: number of items.
        size: N, side of the views, pixels.
        min_size: clips with smaller frames are left out.
        rotation: see `EnhancerDataConfig`.
        shift: see `EnhancerDataConfig`.
        zoom: see `EnhancerDataConfig`.
        seed: seed of all draws.

    Raises:
        DataError: fewer than two clips are left.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        length: int,
        size: int,
        min_size: int = 0,
        rotation: float = 8.0,
        shift: float = 0.05,
        zoom: float = 0.12,
        seed: int = 0,
    ) -> None:
        self.index, self.length, self.size, self.seed = ClipIndex(folder, skip_unreadable=True), length, size, seed
        self.rotation, self.shift, self.zoom = rotation, shift, zoom
        sizes = {clip: summary.size for clip, summary in self.index.summaries()}
        self.clips = [clip for clip, n in sizes.items() if n >= min_size]
        if len(self.clips) < 2:
            raise DataError(
                f"{folder}: {len(self.clips)} of {len(sizes)} photographs are {min_size} px or larger "
                f"(the largest: {max(sizes.values(), default=0)} px), expected two at least",
                fix="Prepare sharper photographs with a larger `prepare --size`, or lower data.min_size.",
            )

    def __len__(self) -> int:
        return self.length

    @property
    def unreadable(self) -> Sequence[str]:
        """See `SampleDataset`."""
        return self.index.unreadable

    def __getitem__(self, k: int) -> PhotoBatch:
        return read_or_redraw(self._item, np.random.default_rng((self.seed, k)))

    def describe(self, batch: PhotoBatch) -> list[str]:
        """The keys of every sample's two clips."""
        pairs = zip(batch.identity.tolist(), batch.stranger.tolist(), strict=True)
        return [f"{self.index.record(one).key} and {self.index.record(other).key}" for one, other in pairs]

    def _item(self, rng: np.random.Generator) -> PhotoBatch:
        first = int(rng.integers(len(self.clips)))
        second = int((first + 1 + rng.integers(len(self.clips) - 1)) % len(self.clips))
        one, other = self.clips[first], self.clips[second]
        photo, stranger = self._read(one, rng), self._read(other, rng)
        return PhotoBatch(
            source=self._view(photo, self.index.record(one), rng),
            target=self._view(photo, self.index.record(one), rng),
            driver=self._view(stranger, self.index.record(other), rng),
            identity=torch.tensor(one),
            stranger=torch.tensor(other),
        )

    def _read(self, clip: int, rng: np.random.Generator) -> ClipFrame:
        count = len(self.index.record(clip).frames)
        return self.index.read_frame(clip, int(rng.integers(count)), coords=False)

    def _view(self, frame: ClipFrame, record: ClipRecord, rng: np.random.Generator) -> MeasuredImage:
        half_side = float(np.exp(-rng.uniform(0, self.zoom)))
        roll = float(np.clip(rng.normal() * self.rotation, -2 * self.rotation, 2 * self.rotation))
        view = View(rng.uniform(-self.shift, self.shift, 2), half_side, roll)
        return MeasuredImage(
            image=channels_first(view.extract(frame.image, self.size)),
            matte=channels_first(view.extract(frame.matte, self.size)),
            **pose_fields(view.moved(frame.labels)),
            blendshapes=torch.from_numpy(blendshape_labels(frame.labels, record)),
        )
