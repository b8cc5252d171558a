"""Data sets of distillation samples: random ones for training, a fixed selection for sample grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from megaportraits.data.distillation import DistillationIndex
from megaportraits.data.pairs import read_or_redraw
from megaportraits.ops.pictures import resize

Item = dict[str, Tensor]


class DistillationDataset(Dataset[Item]):
    """Item k is one driver and one of its avatars, drawn with the seed (seed, k). `distillation_item` lists the keys.

    Args:
        folder: folder with shards of distillation samples.
        length: number of items.
        driver_size: side of the drivers, pixels.
        size: side of the teacher's images, pixels.
        seed: seed of the draws.
    """

    def __init__(self, folder: Path | str, *, length: int, driver_size: int, size: int, seed: int = 0) -> None:
        self.index = DistillationIndex(folder)
        self.length, self.driver_size, self.size, self.seed = length, driver_size, size, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: int) -> Item:
        return read_or_redraw(self._draw, np.random.default_rng((self.seed, k)))

    def _draw(self, rng: np.random.Generator) -> Item:
        sample = int(rng.integers(len(self.index)))
        avatar = int(rng.choice(self.index.avatars(sample)))
        return distillation_item(self.index, sample, avatar, driver_size=self.driver_size, size=self.size)

    def describe(self, batch: Item) -> list[str]:
        """Key and origin of every driver of a batch, for messages."""
        return [self.index.name(sample) for sample in batch["sample"].tolist()]


class DistillationPreview(Dataset[Item]):
    """A fixed selection of `length` items: the avatars take turns, the drivers are spread evenly over all samples."""

    def __init__(self, folder: Path | str, *, length: int, driver_size: int, size: int) -> None:
        self.index = DistillationIndex(folder)
        self.driver_size, self.size = driver_size, size
        self.pairs = spread(self.index, length)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, k: int) -> Item:
        return distillation_item(self.index, *self.pairs[k], driver_size=self.driver_size, size=self.size)


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


def distillation_item(index: DistillationIndex, sample: int, avatar: int, *, driver_size: int, size: int) -> Item:
    """One driver, and the teacher's image of one avatar.

    Returns:
        uint8: `driver` (3, s, s), `driver_matte` (1, s, s), the teacher's `image` (3, S, S) as colours times alpha, and
        its `matte` (1, S, S). int64: the numbers `avatar` and `sample`. The head pose in `image`: `rotation`,
        `translation`, `scale`.
    """
    read = index.read(sample, [avatar])
    picture = resize(read.pictures[avatar], size)
    return {
        "driver": _channels_first(resize(read.driver, driver_size)),
        "driver_matte": torch.from_numpy(resize(read.matte, driver_size))[None],
        "image": _channels_first(picture[..., :3]),
        "matte": _channels_first(picture[..., 3:]),
        "avatar": torch.tensor(avatar),
        "rotation": torch.from_numpy(read.pose.rotation.astype(np.float32)),
        "translation": torch.from_numpy(read.pose.translation.astype(np.float32)),
        "scale": torch.tensor(read.pose.scale, dtype=torch.float32),
        "sample": torch.tensor(sample),
    }


def _channels_first(image: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
