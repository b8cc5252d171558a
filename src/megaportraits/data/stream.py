"""Clips streamed from addresses. Items are reproducible: an item's number decides which shards it is drawn from.

Items are divided into lanes, one for each loading process of each rank; one process makes all items of a lane. All
lanes share one endless shuffled sequence of shards, and lane l of L takes every L-th shard, so that each shard is
downloaded once per epoch and by one process only. An item is drawn from a window of `shards` consecutive shards of its
lane. The window advances by one shard after `draws` items; the next shard is downloaded in the meantime.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from megaportraits.data.clip_schema import ClipFrame, ClipRecord
from megaportraits.data.clips import ClipIndex, readable
from megaportraits.data.mixture import is_address, parse_mixture
from megaportraits.data.remote import RemoteFolder
from megaportraits.data.shard_prefetcher import ShardPrefetcher

_SHARE, _SHARD = 1 << 56, 1 << 32
"""A clip's number is part of the mixture * `_SHARE` + shard * `_SHARD` + number within the shard.

So it is valid in every process.
"""


class Clips(Protocol):
    """The clips that pairs are drawn from: all clips of folders, or a window of streamed clips."""

    def partners(self, index: int) -> list[int]:
        """The clips of the same motion group, including this one; none if it has no group."""

    def siblings(self, index: int) -> list[int]:
        """The clips of the same video, including this one."""

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a clip."""

    def record(self, index: int) -> ClipRecord:
        """The record of a clip."""

    def read_frame(self, index: int, frame: int, *, coords: bool = True) -> ClipFrame:
        """A frame of a clip."""


@dataclass(frozen=True)
class Layout:
    """Which loading process makes which item of a step; see `training.loop`.

    Attributes:
        batch: number of items of a step.
        ranks: number of training processes; each takes an equal, contiguous share of a step's items.
        accumulate: number of micro-batches into which each training process divides its share.
        workers: number of loading processes of each training process; they make its micro-batches in turn.
    """

    batch: int = 1
    ranks: int = 1
    accumulate: int = 1
    workers: int = 1

    @property
    def lanes(self) -> int:
        """The number of lanes."""
        return self.ranks * self.workers

    def place(self, k: int) -> tuple[int, int]:
        """The lane of item k and its number within the lane, both from 0; resuming a run does not change them."""
        share = self.batch // self.ranks
        size = share // self.accumulate
        step, at = divmod(k, self.batch)
        rank, inside = divmod(at, share)
        part, offset = divmod(inside, size)
        turn, worker = divmod(step * self.accumulate + part, self.workers)
        return rank * self.workers + worker, turn * size + offset


class StreamIndex:
    """The clips of addresses, or of a mixture of addresses and folders.

    Args:
        line: an address, or a mixture (`data.mixture`).
        seed: seed of the order of shards.
        shards: number of shards in a window, for each lane and part of the mixture.
        draws: number of items that are drawn before the window advances.

    Attributes:
        layout: which process makes which item; must be set before items are made.
        unreadable: messages about damaged shards of local folders, which are left out. `lost` counts streamed shards
            that could not be downloaded.
    """

    def __init__(self, line: Path | str, *, seed: int, shards: int = 4, draws: int = 256) -> None:
        self.shares, self.layout = parse_mixture(line), Layout()
        self._sources: list[ClipIndex | ShardPrefetcher] = [
            ShardPrefetcher(RemoteFolder.open(str(share.folder)), seed, number, shards, draws)
            if is_address(share.folder)
            else ClipIndex(share.folder, skip_unreadable=True)
            for number, share in enumerate(self.shares)
        ]
        local = [source for source in self._sources if isinstance(source, ClipIndex)]
        self.unreadable = [message for index in local for message in index.unreadable]

    def at(self, k: int) -> Window:
        """The clips that item k is drawn from; missing shards are downloaded.

        Raises:
            DataError: no shard of a window can be downloaded.
        """
        lane, place = self.layout.place(k)
        parts = [
            source.at(lane, self.layout.lanes, int(place * share.part))
            if isinstance(source, ShardPrefetcher)
            else source
            for share, source in zip(self.shares, self._sources, strict=True)
        ]
        shards = [source.held if isinstance(source, ShardPrefetcher) else () for source in self._sources]
        return _window(tuple(parts), tuple(share.part for share in self.shares), tuple(shards))

    def expression_names(self) -> tuple[str, ...]:
        """The names of the first clip in the first shards that has expression labels."""
        window = self.at(0)
        known = (record.expression_names for _, record in readable(window.record, window.clips))
        return next((names for names in known if names), ())

    def lost(self) -> int:
        """The number of shards that this process could not download since the last call."""
        return sum(source.take_lost() for source in self._sources if isinstance(source, ShardPrefetcher))

    def close(self) -> None:
        """Delete the shards that this process has downloaded; a later call of `at` downloads them again."""
        for source in self._sources:
            if isinstance(source, ShardPrefetcher):
                source.close()

    def name(self, clip: int) -> str:
        """The key of a clip, or its shard and number there, for messages."""
        share, rest = divmod(clip, _SHARE)
        shard, place = divmod(rest, _SHARD)
        source = self._sources[share]
        return source.record(place).key if isinstance(source, ClipIndex) else f"{source.folder.names[shard]}[{place}]"


class Window:
    """The clips of some shards (`Clips`); their numbers are valid in every process.

    Args:
        parts: an index for each part of the mixture.
        weights: the fraction of draws from each part.
        shards: for each part, the numbers of the shards in its index, in order; empty for a whole local folder.
    """

    def __init__(
        self, parts: tuple[ClipIndex, ...], weights: tuple[float, ...], shards: tuple[tuple[int, ...], ...]
    ) -> None:
        self._parts, self._weights = parts, weights
        self._numbers: list[list[int]] = []
        self._where: dict[int, tuple[int, int]] = {}
        for share, (part, held) in enumerate(zip(parts, shards, strict=True)):
            places = part.places() if held else [(0, i) for i in range(len(part))]
            numbers = [share * _SHARE + (held[s] if held else 0) * _SHARD + place for s, place in places]
            self._numbers.append(numbers)
            self._where |= {number: (share, i) for i, number in enumerate(numbers)}

    @property
    def clips(self) -> list[int]:
        """The numbers of all clips."""
        return [number for numbers in self._numbers for number in numbers]

    def partners(self, index: int) -> list[int]:
        """See `Clips`; motion groups of different parts of the mixture are different groups."""
        share, place = self._where[index]
        return [self._numbers[share][i] for i in self._parts[share].partners(place)]

    def siblings(self, index: int) -> list[int]:
        """See `Clips`; only clips in the window's shards are returned."""
        share, place = self._where[index]
        return [self._numbers[share][i] for i in self._parts[share].siblings(place)]

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a part of the mixture by its weight, then one of its clips, all equally likely."""
        chosen = int(rng.choice(len(self._parts), p=self._weights)) if len(self._parts) > 1 else 0
        return self._numbers[chosen][int(rng.integers(len(self._numbers[chosen])))]

    def record(self, index: int) -> ClipRecord:
        """See `ClipIndex.record`."""
        share, place = self._where[index]
        return self._parts[share].record(place)

    def read_frame(self, index: int, frame: int, *, coords: bool = True) -> ClipFrame:
        """See `ClipIndex.read_frame`."""
        share, place = self._where[index]
        return self._parts[share].read_frame(place, frame, coords=coords)


_window = lru_cache(maxsize=2)(Window)


def open_clips(line: Path | str, *, seed: int, shards: int, draws: int) -> ClipIndex | StreamIndex:
    """Open the clips of folders, of addresses, or of a mixture of both; the other arguments are for `StreamIndex`."""
    if any(is_address(share.folder) for share in parse_mixture(line)):
        return StreamIndex(line, seed=seed, shards=shards, draws=draws)
    return ClipIndex(line, skip_unreadable=True)
