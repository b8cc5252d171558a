"""The clip format of `docs/conventions.md`: atomic tar shards, and random access to their frames.

A shard is an ordinary uncompressed (USTAR) tar file, so WebDataset can stream it. On a local disk `ClipIndex` knows the
offset of every member and reads a single frame with three seeks.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from megaportraits.data.clip_schema import ClipFrame, ClipRecord
from megaportraits.data.clip_table import ClipSummary, ClipTable, corrupt, parse_record
from megaportraits.data.codec import (
    decode_coords,
    decode_image,
    decode_matte,
    encode_coords,
    encode_image,
    encode_matte,
)
from megaportraits.data.index import open_table, scan_folder
from megaportraits.data.mixture import parse_mixture
from megaportraits.data.shard_index import ClipMembers, read_member
from megaportraits.data.tar_writer import write_tar
from megaportraits.errors import DataError

CLIPS_PER_SHARD = 64


def shard_name(index: int) -> str:
    """The file name of shard `index`: `clips-000000.tar`."""
    return f"clips-{index:06d}.tar"


def video_of(key: str) -> str:
    """The key of the video that `prepare` cut a clip from: the clip's key up to the last "-"."""
    return key.rpartition("-")[0] or key


class ShardWriter:
    """Writes one shard; the file appears under its final name only when it is complete.

    The bytes depend on the clips alone (no times, no owners), so equal clips give equal files.

        with ShardWriter(folder, index=3) as shard:
            shard.write(record, frames)

    If the block raises, no file is left. An existing shard is an error and is not overwritten.
    """

    def __init__(self, folder: Path, index: int, *, quality: int = 95) -> None:
        self.path = Path(folder) / shard_name(index)
        self.quality = quality
        if self.path.exists():
            raise DataError(
                f"Shard {self.path} exists already.", fix="Choose another folder, or remove the shard first."
            )
        self._file = write_tar(self.path)
        self._keys: set[str] = set()

    def write(self, record: ClipRecord, frames: Sequence[ClipFrame]) -> None:
        """Append one clip. `frames` are in the order of `record.frames`, which holds their labels."""
        if len(frames) != len(record.frames):
            raise DataError(f"Clip {record.key} has labels for {len(record.frames)} frames, got {len(frames)} frames.")
        self._claim(record.key)
        self._add(f"{record.key}.json", json.dumps(record.to_json()).encode())
        for number, frame in enumerate(frames):
            stem = f"{record.key}.{number:03d}"
            self._add(f"{stem}.jpg", encode_image(frame.image, self.quality))
            self._add(f"{stem}.matte.png", encode_matte(frame.matte))
            if frame.coords is not None and frame.valid is not None:
                self._add(f"{stem}.coords.png", encode_coords(frame.coords, frame.valid))

    def copy(self, key: str, members: Iterable[tuple[str, bytes]]) -> None:
        """Append one clip of already encoded members: (name after the key's dot, bytes), with `json` first."""
        self._claim(key)
        for name, content in members:
            self._add(f"{key}.{name}", content)

    def _claim(self, key: str) -> None:
        if key in self._keys or "." in key or "/" in key:
            raise DataError(f"Clip key {key!r} is used twice in {self.path}, or holds a '.' or '/'.")
        self._keys.add(key)

    def __enter__(self) -> ShardWriter:
        self._add = self._file.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)


class ClipIndex:
    """Random access to all clips of a folder of local shards, or of a mixture of folders.

    The offsets of members and the summaries of records come from the folders' indices (`data.index`). Files are
    opened for each read, so that the object can be pickled and used in forked workers.

    Args:
        folder: a folder with `clips-*.tar`, or a mixture like `real/train * 0.3 + lifted/train * 0.7` (`data.mixture`).
        cache: how many parsed clip records to keep.
        skip_unreadable: leave out damaged shards and list them in `unreadable`, instead of raising: one damaged file
            should not end a long training.
        indexed: False neither makes nor reads an index; for shards that are deleted again soon.

    Raises:
        DataError: there are no shards, or (unless skipped) a shard is not a complete tar file.
    """

    def __init__(
        self, folder: Path | str, *, cache: int = 4096, skip_unreadable: bool = False, indexed: bool = True
    ) -> None:
        self.unreadable: list[str] = []
        self.shares = parse_mixture(folder)
        self._cache_size = cache
        self._records: OrderedDict[int, ClipRecord] = OrderedDict()
        self._tables: list[ClipTable] = []
        self._folders: list[Path] = []
        self._ends: list[int] = []
        self._indexed = indexed
        for share in self.shares:
            if isinstance(share.folder, str):
                raise DataError(
                    f"{share.folder} is an address; only `train base` and `train motion` stream.",
                    fix="Copy the shards into a folder.",
                )
            table = open_table(share.folder) if indexed else scan_folder(share.folder)
            faults = table.faults(share.folder)
            if faults and not skip_unreadable:
                raise DataError(faults[0], fix="Remove the shard and make it again.")
            self.unreadable += faults
            if faults and not len(table):
                raise DataError(f"No shard of {share.folder} is readable: {faults[-1]}", fix="Make them again.")
            self._tables.append(table)
            self._folders.append(share.folder)
            self._ends.append(len(self) + len(table))

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a clip: a folder by the mixture's weights, then one of its clips, all equally likely."""
        chosen = self.draw_share(rng)
        return int(rng.integers(self._ends[chosen - 1] if chosen else 0, self._ends[chosen]))

    def draw_share(self, rng: np.random.Generator) -> int:
        """Draw the number of a folder by the mixture's weights; with a single folder `rng` is not used."""
        if len(self.shares) == 1:
            return 0
        return int(rng.choice(len(self.shares), p=[share.part for share in self.shares]))

    @property
    def ends(self) -> list[int]:
        """For each folder of the mixture, the number of its last clip plus 1."""
        return list(self._ends)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """The numbers of the clips of each motion group, without clips whose records cannot be read."""
        found: dict[str, list[int]] = defaultdict(list)
        for clip, summary in self.summaries():
            if summary.motion_group is not None:
                found[summary.motion_group].append(clip)
        return dict(found)

    def summaries(self) -> Iterator[tuple[int, ClipSummary]]:
        """Number and summary of every clip whose record can be read; records are read only without an index."""
        if not self._indexed:
            yield from ((clip, ClipSummary.of(record)) for clip, record in readable(self.record, range(len(self))))
            return
        for share, table in enumerate(self._tables):
            first = self._ends[share] - len(table)
            for number, summary in enumerate(table.summaries()):
                if summary is not None:
                    if summary.motion_group is not None and len(self.shares) > 1:
                        summary = replace(summary, motion_group=self._group(share, summary.motion_group))
                    yield first + number, summary

    def partners(self, index: int) -> list[int]:
        """The clips of the same motion group, including this one; none if it has no group."""
        return self.groups.get(self.record(index).motion_group or "", [])

    @cached_property
    def _videos(self) -> dict[tuple[int, str], list[int]]:
        found: dict[tuple[int, str], list[int]] = defaultdict(list)
        for share, table in enumerate(self._tables):
            first = self._ends[share] - len(table)
            for number in range(len(table)):
                found[share, video_of(table.key(number))].append(first + number)
        return dict(found)

    def siblings(self, index: int) -> list[int]:
        """The clips of the same video and folder (by `video_of`), including this one; reads no records."""
        share, number = self._place(index)
        return self._videos[share, video_of(self._tables[share].key(number))]

    def expression_names(self) -> tuple[str, ...]:
        """The names of the first clip that has expression labels; real clips have fewer than synthetic ones."""
        return next((summary.expression_names for _, summary in self.summaries() if summary.expression_names), ())

    def places(self) -> list[tuple[int, int]]:
        """For each clip, the number of its shard (in the order of names) and its own number within the shard."""
        found: list[tuple[int, int]] = []
        shards = 0
        for table in self._tables:
            found += [(shards + shard, place) for shard, place in table.places()]
            shards += len(table.shards)
        return found

    def record(self, index: int) -> ClipRecord:
        """The record of clip `index`, from a bounded cache or from the shard.

        Raises:
            IndexError: no such clip.
            DataError: the record is missing or damaged; the message names shard and key.
        """
        index = range(len(self))[index]
        if index in self._records:
            self._records.move_to_end(index)
            return self._records[index]
        record = parse_record(self._members(index))
        if record.motion_group is not None:
            record = replace(record, motion_group=self._group(self._place(index)[0], record.motion_group))
        self._records[index] = record
        if len(self._records) > self._cache_size:
            self._records.popitem(last=False)
        return record

    def read_frame(self, index: int, frame: int, *, coords: bool = True) -> ClipFrame:
        """Frame `frame` of clip `index`; `coords=False` skips decoding the surface map.

        Raises:
            IndexError: no such clip or frame.
            DataError: a member is missing or cannot be decoded; the message names shard and key.
        """
        record, clip = self.record(index), self._members(index)
        frame = range(len(record.frames))[frame]
        stem = f"{frame:03d}"
        name = f"{stem}.webp" if f"{stem}.webp" in clip.members else f"{stem}.jpg"
        image = self._decoded(clip, name, decode_image, (record.size, record.size, 3))
        matte = self._decoded(clip, f"{stem}.matte.png", decode_matte, (record.size, record.size))
        surface = valid = None
        if coords and f"{stem}.coords.png" in clip.members:
            surface, valid = self._decoded(clip, f"{stem}.coords.png", decode_coords, None)
        return ClipFrame(image, matte, record.frames[frame], surface, valid)

    def read_clip(self, index: int, *, coords: bool = True) -> tuple[ClipRecord, list[ClipFrame]]:
        """The record and all frames of clip `index`."""
        record = self.record(index)
        return record, [self.read_frame(index, j, coords=coords) for j in range(len(record.frames))]

    def _place(self, index: int) -> tuple[int, int]:
        """The number of a clip's folder, and the clip's number there; IndexError if there is no such clip."""
        index = range(len(self))[index]
        share = bisect_right(self._ends, index)
        return share, index - (self._ends[share] - len(self._tables[share]))

    def _members(self, index: int) -> ClipMembers:
        share, number = self._place(index)
        return self._tables[share].members(number, self._folders[share])

    def _group(self, share: int, group: str) -> str:
        """A motion group's unique name: two folders of a mixture may use one name for different motions."""
        return f"{self._folders[share]}/{group}" if len(self.shares) > 1 else group

    def _bytes(self, clip: ClipMembers, name: str) -> bytes:
        if name not in clip.members:
            raise corrupt(clip, name, "the member is missing")
        return read_member(clip.shard, *clip.members[name])

    def _decoded(self, clip: ClipMembers, name: str, decode: Any, shape: tuple[int, ...] | None) -> Any:
        try:
            value = decode(self._bytes(clip, name))
        except (ValueError, cv2.error) as error:
            raise corrupt(clip, name, str(error)) from error
        if shape is not None and value.shape != shape:
            raise corrupt(clip, name, f"expected shape {shape}, got {value.shape}")
        return value


def readable(record: Callable[[int], ClipRecord], numbers: Iterable[int]) -> Iterator[tuple[int, ClipRecord]]:
    """The clips among `numbers` whose `record` can be read: one bad record should not end a long training."""
    for number in numbers:
        try:
            yield number, record(number)
        except DataError:
            continue
