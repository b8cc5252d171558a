"""Pairs of frames together with photographs, for training on both at once (B.2)."""

from __future__ import annotations

from collections.abc import Sequence

from megaportraits.data.batches import JointBatch
from megaportraits.data.dataset import SampleDataset
from megaportraits.data.pairs import PairDataset
from megaportraits.data.photos import PhotoDataset
from megaportraits.data.stream import Layout


class JointDataset(SampleDataset[JointBatch]):
    """Item k joins item k of the pairs and item k of the photographs."""

    def __init__(self, pairs: PairDataset, photos: PhotoDataset) -> None:
        self.pairs, self.photos = pairs, photos

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, k: int) -> JointBatch:
        pair, photo = self.pairs[k], self.photos[k]
        return JointBatch(pair, photo, unreadable=pair.unreadable + photo.unreadable)

    @property
    def unreadable(self) -> Sequence[str]:
        """See `SampleDataset`."""
        return [*self.pairs.unreadable, *self.photos.unreadable]

    def spread(self, layout: Layout) -> None:
        """See `SampleDataset`."""
        self.pairs.spread(layout)

    def describe(self, batch: JointBatch) -> list[str]:
        """The clip keys of every sample."""
        return [*self.pairs.describe(batch.pairs), *self.photos.describe(batch.photos)]
