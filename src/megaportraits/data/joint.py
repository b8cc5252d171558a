"""Pairs of frames and photographs together, for training on both at once (B.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from megaportraits.data.pairs import PairDataset
from megaportraits.data.photos import PhotoDataset
from megaportraits.data.stream import Layout

PREFIX = "photo_"


class JointDataset(Dataset[dict[str, Tensor]]):
    """Item k: item k of the pairs, and that of the photographs, whose keys begin with `PREFIX`."""

    def __init__(self, pairs: PairDataset, photos: PhotoDataset) -> None:
        self.pairs, self.photos = pairs, photos

    @property
    def index(self) -> Any:
        """The pairs' clips."""
        return self.pairs.index

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        pair, photo = self.pairs[k], self.photos[k]
        both = {"unreadable": pair["unreadable"] + photo["unreadable"]}
        return pair | {PREFIX + key: value for key, value in photo.items()} | both

    def spread(self, layout: Layout) -> None:
        """As the pairs'."""
        self.pairs.spread(layout)

    def describe(self, batch: dict[str, Tensor]) -> list[str]:
        """The clips of every sample."""
        return [*self.pairs.describe(batch), *self.photos.describe(split(batch)[1])]


def split(batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The pairs' and the photographs' part of a batch."""
    photos = {key.removeprefix(PREFIX): value for key, value in batch.items() if key.startswith(PREFIX)}
    return {key: value for key, value in batch.items() if not key.startswith(PREFIX)}, photos
