"""Pairs of frames together with photographs, for training on both at once (B.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from megaportraits.data.pairs import PairDataset
from megaportraits.data.photos import PhotoDataset
from megaportraits.data.stream import Layout

PREFIX = "photo_"


class JointDataset(Dataset[dict[str, Tensor]]):
    """Item k joins item k of the pairs and item k of the photographs; the latter's keys begin with `PREFIX`."""

    def __init__(self, pairs: PairDataset, photos: PhotoDataset) -> None:
        self.pairs, self.photos = pairs, photos

    @property
    def index(self) -> Any:
        """The index of the pairs' clips."""
        return self.pairs.index

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        pair, photo = self.pairs[k], self.photos[k]
        both = {"unreadable": pair["unreadable"] + photo["unreadable"]}
        return pair | {PREFIX + key: value for key, value in photo.items()} | both

    def spread(self, layout: Layout) -> None:
        """See `PairDataset.spread`."""
        self.pairs.spread(layout)

    def describe(self, batch: dict[str, Tensor]) -> list[str]:
        """The clip keys of every sample."""
        return [*self.pairs.describe(batch), *self.photos.describe(split(batch)[1])]


def split(batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a batch into the pairs' part and the photographs' part."""
    photos = {key.removeprefix(PREFIX): value for key, value in batch.items() if key.startswith(PREFIX)}
    return {key: value for key, value in batch.items() if not key.startswith(PREFIX)}, photos
