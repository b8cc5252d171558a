"""Clips streamed from addresses, with items that can be made again: which shards an item sees follows from its number.

Work is laid out in lanes, one for each loading process of each rank; consecutive items of a lane are made by one
process. All lanes together walk through one endless shuffled sequence of shards, lane l taking every L-th one, so that
each shard is fetched once an epoch and by one process only. An item is drawn from a window of `shards` shards of its
lane, which moves on by one after `draws` items; the next shard is fetched meanwhile.
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
"""A clip's number: share, shard and place in the shard, so that it says who it is in every process."""


class Clips(Protocol):
    """What pairs are drawn from: all clips of folders, or a window of streamed ones."""

    def partners(self, index: int) -> list[int]:
        """Clips of the same motion group, itself among them; none where it has no group."""

    def siblings(self, index: int) -> list[int]:
        """Clips of the same video, itself among them."""

    def draw(self, rng: np.random.Generator) -> int:
        """A random clip."""

    def record(self, index: int) -> ClipRecord:
        """Its record."""

    def read_frame(self, index: int, frame: int, *, coords: bool = True) -> ClipFrame:
        """One of its frames."""


@dataclass(frozen=True)
class Layout:
    """Who makes which item of a step; see `training.loop`.

    Attributes:
        batch: items of a step.
        ranks: processes that share a step, in order.
        accumulate: parts that each of them makes of its share.
        workers: loading processes of each; they take parts in turn.
    """

    batch: int = 1
    ranks: int = 1
    accumulate: int = 1
    workers: int = 1

    @property
    def lanes(self) -> int:
        """How many there are."""
        return self.ranks * self.workers

    def place(self, k: int) -> tuple[int, int]:
        """The lane of item k and its place there, both from 0; a run that is resumed keeps them."""
        share = self.batch // self.ranks
        size = share // self.accumulate
        step, at = divmod(k, self.batch)
        rank, inside = divmod(at, share)
        part, offset = divmod(inside, size)
        turn, worker = divmod(step * self.accumulate + part, self.workers)
        return rank * self.workers + worker, turn * size + offset


class StreamIndex:
    """The clips of addresses, or of a mix of addresses and folders.

    Args:
        line: an address, or a mix of them (`data.mixture`).
        seed: of the order of shards.
        shards: how many are held at a time, per lane and share.
        draws: items that are made while the window stays.

    Attributes:
        layout: who makes which item; set before items are made.
        unreadable: shards of folders that were left out at the start; streamed ones are met later (`lost`).
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
        """The clips that item k is drawn from; fetches what is missing.

        Raises:
            DataError: not one shard of a window can be had.
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
        """The coefficients' names of the first clip that knows any, in the first shards."""
        window = self.at(0)
        known = (record.expression_names for _, record in readable(window.record, window.clips))
        return next((names for names in known if names), ())

    def lost(self) -> int:
        """Shards that could not be had since the last call, in this process."""
        return sum(source.take_lost() for source in self._sources if isinstance(source, ShardPrefetcher))

    def name(self, clip: int) -> str:
        """Where a clip of any window comes from."""
        share, rest = divmod(clip, _SHARE)
        shard, place = divmod(rest, _SHARD)
        source = self._sources[share]
        return source.record(place).key if isinstance(source, ClipIndex) else f"{source.folder.names[shard]}[{place}]"


class Window:
    """The clips of some shards (`Clips`); their numbers are good in every process.

    Args:
        parts: an index per share.
        weights: the shares' parts of all draws.
        shards: numbers of the shards that each index holds, in its order; empty for a whole folder.
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
        """All numbers."""
        return [number for numbers in self._numbers for number in numbers]

    def partners(self, index: int) -> list[int]:
        """See `Clips`; the groups of different shares are different ones."""
        share, place = self._where[index]
        return [self._numbers[share][i] for i in self._parts[share].partners(place)]

    def siblings(self, index: int) -> list[int]:
        """See `Clips`; of a video whose clips lie in several shards, those that are held."""
        share, place = self._where[index]
        return [self._numbers[share][i] for i in self._parts[share].siblings(place)]

    def draw(self, rng: np.random.Generator) -> int:
        """A share by its part of the mix, then any of its clips alike."""
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
    """The clips of folders, of addresses, or of a mix of both; the rest is for `StreamIndex`."""
    if any(is_address(share.folder) for share in parse_mixture(line)):
        return StreamIndex(line, seed=seed, shards=shards, draws=draws)
    return ClipIndex(line, skip_unreadable=True)
