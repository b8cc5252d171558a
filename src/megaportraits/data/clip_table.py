"""A table of the clips of a folder of shards, so that opening the folder reads no records.

The table has columns of numbers and of texts, with one row for each shard, clip, frame or member. A folder of 100,000
clips has 14 million members, so the columns are arrays and not objects. `data.index` keeps the table in a file.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from megaportraits.data.clip_schema import KINDS, ClipRecord
from megaportraits.data.shard_index import ClipMembers, read_member, scan_shard
from megaportraits.errors import DataError
from megaportraits.reading import FAULTS, access

Array = npt.NDArray[Any]

FORMAT = 1
_HEADER, _HEAD = 512, 4096
"""Bytes that a shard's digest covers for each record: its tar header and the beginning of the record."""
_NUMBERS: dict[str, tuple[str, type[np.generic]]] = {
    "size": ("shard", np.int64),
    "changed": ("shard", np.int64),  # st_mtime_ns
    "clips": ("shard", np.int64),
    "kind": ("clip", np.uint8),  # index in KINDS, or _UNREADABLE
    "grouped": ("clip", np.uint8),
    "pixels": ("clip", np.int32),
    "frames": ("clip", np.int32),
    "names": ("clip", np.int32),
    "members": ("clip", np.int32),
    "record": ("clip", np.int64),  # offset of the record in the shard; -1: there is none
    "landmarks": ("frame", np.uint8),
    "member": ("member", np.int32),
    "offset": ("member", np.int64),
    "bytes": ("member", np.uint32),
}
_TEXTS = {
    **dict.fromkeys(("shard", "digest", "fault"), "shard"),
    **dict.fromkeys(("key", "name", "identity", "group"), "clip"),
    **dict.fromkeys(("member_names", "expression_names"), "list"),
}
_FAULTS: tuple[type[Exception], ...] = (SafetensorError, *FAULTS)
_UNREADABLE = 255
_SURE = 10**9
"""Nanoseconds; longer than the time resolution of any file system in use."""


@dataclass(frozen=True)
class ClipSummary:
    """A clip's record without the labels of its frames.

    Attributes:
        key: as in `clip_schema.ClipRecord`.
        kind: as in `clip_schema.ClipRecord`.
        identity: as in `clip_schema.ClipRecord`.
        motion_group: as in `clip_schema.ClipRecord`.
        size: as in `clip_schema.ClipRecord`.
        expression_names: as in `clip_schema.ClipRecord`.
        landmarks: (frames,) bool, which frames have landmarks.
    """

    key: str
    kind: str
    identity: str
    motion_group: str | None
    size: int
    expression_names: tuple[str, ...]
    landmarks: npt.NDArray[np.bool_]

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self.landmarks)

    @staticmethod
    def of(record: ClipRecord) -> ClipSummary:
        """The summary of a record."""
        landmarks = np.array([frame.landmarks is not None for frame in record.frames], bool)
        group, names = record.motion_group, record.expression_names
        return ClipSummary(record.key, record.kind, record.identity, group, record.size, names, landmarks)


class ClipTable:
    """The clips in the shards of one folder.

    Args:
        numbers: the columns of numbers, by the names in `_NUMBERS`.
        texts: the columns of texts, by the names in `_TEXTS`.

    Raises:
        ValueError, TypeError, KeyError: the columns do not fit together.
    """

    def __init__(self, numbers: Mapping[str, Array], texts: Mapping[str, Sequence[str]]) -> None:
        self.numbers = {name: numbers[name].astype(kind, copy=False) for name, (_, kind) in _NUMBERS.items()}
        self.texts = {name: texts[name] for name in _TEXTS}
        self._expressions = [tuple(json.loads(text)) for text in texts["expression_names"]]
        self._clip_ends = _ends(self.numbers["clips"])
        self._frame_ends = _ends(self.numbers["frames"])
        self._member_ends = _ends(self.numbers["members"])
        self._shard_of = np.repeat(np.arange(len(self.texts["shard"])), self.numbers["clips"])
        rows = {
            "shard": len(self.texts["shard"]),
            "clip": int(self._clip_ends[-1]),
            "frame": int(self._frame_ends[-1]),
            "member": int(self._member_ends[-1]),
        }
        columns = {name: (level, len(self.numbers[name])) for name, (level, _) in _NUMBERS.items()}
        columns |= {name: (level, len(self.texts[name])) for name, level in _TEXTS.items() if level != "list"}
        wrong = [name for name, (level, length) in columns.items() if length != rows[level]]
        if wrong or (self.numbers["names"] >= len(self._expressions)).any():
            raise ValueError(f"the columns {wrong or ['names']} have another length than the others")

    def __len__(self) -> int:
        return int(self._clip_ends[-1])

    @property
    def shards(self) -> Sequence[str]:
        """The file names of the shards, in order."""
        return self.texts["shard"]

    def shard_of(self, clip: int) -> str:
        """The file name of a clip's shard."""
        return self.texts["shard"][int(self._shard_of[clip])]

    def key(self, clip: int) -> str:
        """The clip's key in the archive."""
        return self.texts["key"][clip]

    def members(self, clip: int, folder: Path) -> ClipMembers:
        """The positions of a clip's members in its shard.

        Raises:
            DataError: the table is damaged.
        """
        part = slice(int(self._member_ends[clip]), int(self._member_ends[clip + 1]))
        names = self.texts["member_names"]
        columns = (self.numbers[name][part].tolist() for name in ("member", "offset", "bytes"))
        shard = folder / self.shard_of(clip)
        try:
            found = {names[name]: (offset, size) for name, offset, size in zip(*columns, strict=True) if offset >= 0}
        except IndexError as error:
            raise DataError(f"The index of {shard} is damaged.", fix=f"Remove the index in {folder}.") from error
        return ClipMembers(shard, self.texts["key"][clip], found)

    def summaries(self) -> Iterator[ClipSummary | None]:
        """The summaries of all clips in order; None where a record could not be read."""
        numbers, texts = self.numbers, self.texts
        landmarks, ends = numbers["landmarks"].astype(bool), self._frame_ends.tolist()
        columns = (numbers[name].tolist() for name in ("kind", "grouped", "pixels", "names"))
        named = (texts[name] for name in ("name", "identity", "group"))
        rows = zip(*columns, *named, itertools.pairwise(ends), strict=True)
        for kind, grouped, pixels, names, name, identity, group, (first, last) in rows:
            if kind >= len(KINDS):
                yield None
                continue
            group, expressions = group if grouped else None, self._expressions[names]
            yield ClipSummary(name, KINDS[kind], identity, group, pixels, expressions, landmarks[first:last])

    def places(self) -> list[tuple[int, int]]:
        """For each clip, the number of its shard and its own number within the shard."""
        within = np.arange(len(self)) - self._clip_ends[:-1][self._shard_of]
        return list(zip(self._shard_of.tolist(), within.tolist(), strict=True))

    def faults(self, folder: Path) -> list[str]:
        """Error messages about the damaged shards."""
        pairs = zip(self.texts["shard"], self.texts["fault"], strict=True)
        return [fault.replace(name, str(folder / name), 1) for name, fault in pairs if fault]

    def part(self, shard: int) -> ClipTable:
        """A table of one shard only."""
        clips = slice(int(self._clip_ends[shard]), int(self._clip_ends[shard + 1]))
        rows = {
            "shard": slice(shard, shard + 1),
            "clip": clips,
            "frame": slice(int(self._frame_ends[clips.start]), int(self._frame_ends[clips.stop])),
            "member": slice(int(self._member_ends[clips.start]), int(self._member_ends[clips.stop])),
            "list": slice(None),
        }
        return ClipTable(
            {name: self.numbers[name][rows[level]] for name, (level, _) in _NUMBERS.items()},
            {name: self.texts[name][rows[level]] for name, level in _TEXTS.items()},
        )

    def is_shard(self, shard: int, path: Path, *, made: int) -> bool:
        """Whether a file still is the shard that row `shard` describes.

        Its size must be equal, and so must be its modification time or its digest.

        Args:
            shard: the row.
            path: the file.
            made: when the table was made, in nanoseconds. For a file that was modified in the second before, the time
                proves nothing: a later change may have left the same time. Then the digest decides.
        """
        try:
            status = path.stat()
            if status.st_size != int(self.numbers["size"][shard]):
                return False
            if status.st_mtime_ns == int(self.numbers["changed"][shard]) and status.st_mtime_ns < made - _SURE:
                return True
            first, last = int(self._clip_ends[shard]), int(self._clip_ends[shard + 1])
            return _digest(path, self.numbers["record"][first:last].tolist()) == self.texts["digest"][shard]
        except OSError:
            return False

    def to_bytes(self, made: int) -> bytes:
        """The content of an index file; `made` is when the table was made, in nanoseconds."""
        tensors = {f"n.{name}": np.ascontiguousarray(column) for name, column in self.numbers.items()}
        for name, column in self.texts.items():
            encoded = [text.encode("utf-8", "surrogatepass") for text in column]
            tensors[f"t.{name}"] = np.frombuffer(b"".join(encoded), np.uint8)
            tensors[f"e.{name}"] = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        tensors["made"] = np.array([made, FORMAT], np.int64)
        return save(tensors)

    @staticmethod
    def from_bytes(content: bytes) -> tuple[ClipTable, int]:
        """The inverse of `to_bytes`: the table, and when it was made.

        Raises:
            ValueError: `content` is not a table of this version's format.
        """
        try:
            tensors = load(content)
            made, version = (int(number) for number in tensors["made"])
            if version != FORMAT:
                raise ValueError(f"format {version}, this version reads {FORMAT}")
            texts = {name: _split(tensors[f"t.{name}"], tensors[f"e.{name}"]) for name in _TEXTS}
            return ClipTable({name: tensors[f"n.{name}"] for name in _NUMBERS}, texts), made
        except _FAULTS as error:
            raise ValueError(f"not a table of clips: {error}") from error


def join(tables: Sequence[ClipTable]) -> ClipTable:
    """One table with the rows of all given tables, in order."""
    numbers = {name: np.concatenate([table.numbers[name] for table in tables]) for name in _NUMBERS}
    texts: dict[str, Sequence[str]] = {
        name: list(itertools.chain.from_iterable(table.texts[name] for table in tables))
        for name, level in _TEXTS.items()
        if level != "list"
    }
    for column, listed in (("member", "member_names"), ("names", "expression_names")):
        numbering = _Numbering()
        moved = []
        for table in tables:
            new = [numbering[text] for text in table.texts[listed]]
            moved.append(np.array(new, np.int32)[table.numbers[column]] if len(table.numbers[column]) else new[:0])
        numbers[column] = np.concatenate([np.asarray(part, np.int32) for part in moved])
        texts[listed] = numbering.texts
    return ClipTable(numbers, texts)


def scan(shard: Path, *, records: bool = True) -> ClipTable:
    """Make the table of one shard by reading the file.

    Args:
        shard: a tar file.
        records: whether to read and check every clip's record. Otherwise only the tar headers are read, and no clip
            has a summary.

    Returns:
        The table. For a damaged shard it has no clips, and its `fault` says why.

    Raises:
        DataError: the file cannot be accessed.
    """
    with access(shard, DataError):
        status = shard.stat()
    fault, clips = "", []
    try:
        clips = scan_shard(shard)
    except DataError as error:
        if isinstance(error.__cause__, OSError):
            raise
        fault = error.message.replace(str(shard), shard.name)
    summaries = [_read_summary(clip) if records else None for clip in clips]
    names, expressions = _Numbering(), _Numbering([json.dumps([])])
    at = [clip.members["json"][0] if "json" in clip.members else -1 for clip in clips]
    lists = [json.dumps(list(summary.expression_names)) if summary else json.dumps([]) for summary in summaries]
    places = [(names[name], offset, size) for clip in clips for name, (offset, size) in clip.members.items()]
    numbers: dict[str, list[Any]] = {
        "size": [status.st_size],
        "changed": [status.st_mtime_ns],
        "clips": [len(clips)],
        "kind": [KINDS.index(summary.kind) if summary else _UNREADABLE for summary in summaries],
        "grouped": [bool(summary and summary.motion_group is not None) for summary in summaries],
        "pixels": [summary.size if summary else 0 for summary in summaries],
        "frames": [summary.frames if summary else 0 for summary in summaries],
        "names": [expressions[text] for text in lists],
        "members": [len(clip.members) for clip in clips],
        "record": at,
        "landmarks": [has for summary in summaries if summary for has in summary.landmarks],
        "member": [name for name, _, _ in places],
        "offset": [offset for _, offset, _ in places],
        "bytes": [size for _, _, size in places],
    }
    texts = {
        "shard": [shard.name],
        "digest": [_digest(shard, at)],
        "fault": [fault],
        "key": [clip.key for clip in clips],
        "name": [summary.key if summary else "" for summary in summaries],
        "identity": [summary.identity if summary else "" for summary in summaries],
        "group": [(summary.motion_group or "") if summary else "" for summary in summaries],
        "member_names": names.texts,
        "expression_names": expressions.texts,
    }
    return ClipTable({name: np.array(numbers[name], kind) for name, (_, kind) in _NUMBERS.items()}, texts)


class _Numbering(dict[str, int]):
    """Numbers texts in the order of their first use."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        super().__init__({text: number for number, text in enumerate(texts)})

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        return self[text]

    @property
    def texts(self) -> list[str]:
        return list(self)


def parse_record(clip: ClipMembers) -> ClipRecord:
    """Read a clip's record from its shard.

    Raises:
        DataError: the record is missing or damaged; the message names shard and key.
    """
    if "json" not in clip.members:
        raise corrupt(clip, "json", "the member is missing")
    content = read_member(clip.shard, *clip.members["json"])
    try:
        return ClipRecord.from_json(json.loads(content))
    except FAULTS as error:
        raise corrupt(clip, "json", f"{type(error).__name__}: {error}"[:300]) from error


def corrupt(clip: ClipMembers, name: str, why: str) -> DataError:
    """The error for a corrupt member of a clip."""
    return DataError(
        f"Corrupt member {clip.key}.{name} of shard {clip.shard}: {why}.",
        fix="Remove the shard and make it again.",
    )


def _read_summary(clip: ClipMembers) -> ClipSummary | None:
    try:
        return ClipSummary.of(parse_record(clip))
    except DataError:
        return None


def _digest(shard: Path, records: Iterable[int]) -> str:
    """A hash over the tar header and the beginning of every record."""
    digest = hashlib.sha256()
    with shard.open("rb", buffering=0) as file:
        for offset in records:
            if offset >= 0:
                file.seek(offset - _HEADER)
                digest.update(file.read(_HEADER + _HEAD))
    return digest.hexdigest()


def _ends(counts: Array) -> npt.NDArray[np.int64]:
    """0 and the cumulative sums; ValueError for a negative count."""
    if len(counts) and int(counts.min()) < 0:
        raise ValueError("a count is negative")
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _split(content: Array, ends: Array) -> list[str]:
    whole = content.tobytes()
    return [whole[first:last].decode("utf-8", "surrogatepass") for first, last in _spans(ends, len(whole))]


def _spans(ends: Array, length: int) -> Iterator[tuple[int, int]]:
    if len(ends) and (int(ends[-1]) != length or (np.diff(ends, prepend=0) < 0).any()):
        raise ValueError("texts end where there are none")
    return itertools.pairwise([0, *ends.tolist()])
