"""Data sets of distillation samples: random ones for training, a fixed selection for sample grids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from megaportraits.data.batches import DistillationBatch, MattedImage
from megaportraits.data.dataset import SampleDataset, channels_first, pose_fields, read_or_redraw
from megaportraits.data.distillation import DistillationIndex
from megaportraits.ops.pictures import resize


class _DistillationSamples(SampleDataset[DistillationBatch]):
    def __init__(self, folder: Path | str, *, driver_size: int, size: int) -> None:
        self.index = DistillationIndex(folder)
        self.driver_size, self.size = driver_size, size

    @property
    def unreadable(self) -> Sequence[str]:
        """See `SampleDataset`."""
        return self.index.unreadable

    def describe(self, batch: DistillationBatch) -> list[str]:
        """Key and origin of every driver of a batch, for messages."""
        return [self.index.name(sample) for sample in batch.sample.tolist()]

    def item(self, sample: int, avatar: int) -> DistillationBatch:
        """See `distillation_item`."""
        return distillation_item(self.index, sample, avatar, driver_size=self.driver_size, size=self.size)


class DistillationDataset(_DistillationSamples):
    """Item k is one driver and one of its avatars, drawn with the seed (seed, k).

    Args:
        folder: folder with shards of distillation samples.
        length: number of items.
        driver_size: side of the drivers, pixels.
        size: side of the teacher's images, pixels.
        seed: seed of the draws.
    """

    def __init__(self, folder: Path | str, *, length: int, driver_size: int, size: int, seed: int = 0) -> None:
        super().__init__(folder, driver_size=driver_size, size=size)
        self.length, self.seed = length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: int) -> DistillationBatch:
        return read_or_redraw(self._draw, np.random.default_rng((self.seed, k)))

    def _draw(self, rng: np.random.Generator) -> DistillationBatch:
        sample = int(rng.integers(len(self.index)))
        return self.item(sample, int(rng.choice(self.index.avatars(sample))))


class DistillationPreview(_DistillationSamples):
    """A fixed selection of `length` items: the avatars take turns, the drivers are spread evenly over all samples."""

    def __init__(self, folder: Path | str, *, length: int, driver_size: int, size: int) -> None:
        super().__init__(folder, driver_size=driver_size, size=size)
        self.pairs = spread(self.index, length)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, k: int) -> DistillationBatch:
        return self.item(*self.pairs[k])


def spread(index: DistillationIndex, count: int) -> list[tuple[int, int]]:
    """At most `count` different pairs (sample, avatar): avatars take turns, the samples of each are evenly spaced."""
    of: dict[int, list[int]] = {}
    for sample in range(len(index)):
        for avatar in index.avatars(sample):
            of.setdefault(avatar, []).append(sample)
    turns = -(-count // len(of))
    chosen = {
        avatar: [samples[i * len(samples) // turns] for i in range(turns)] if turns < len(samples) else samples
        for avatar, samples in of.items()
    }
    pairs = [(own[t], avatar) for t in range(turns) for avatar, own in sorted(chosen.items()) if t < len(own)]
    return pairs[:count]


def distillation_item(
    index: DistillationIndex, sample: int, avatar: int, *, driver_size: int, size: int
) -> DistillationBatch:
    """One driver (s, s), and the teacher's image (S, S) of one avatar as colours times alpha, with its head pose.

    Args:
        index: the samples.
        sample: number of the sample.
        avatar: number of the avatar.
        driver_size: s, side of the driver, pixels.
        size: S, side of the teacher's image, pixels.
    """
    read = index.read(sample, [avatar])
    picture = resize(read.pictures[avatar], size)
    return DistillationBatch(
        image=channels_first(picture[..., :3]),
        matte=channels_first(picture[..., 3]),
        **pose_fields(read.pose),
        driver=MattedImage(
            channels_first(resize(read.driver, driver_size)), channels_first(resize(read.matte, driver_size))
        ),
        avatar=torch.tensor(avatar),
        sample=torch.tensor(sample),
    )
