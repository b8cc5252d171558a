"""Distillation samples (3.3): driver frames and the teacher's images of them, in WebDataset shards.

A folder contains `distillation-000000.tar`, ... All members of a sample share the key before the dot.

| member | content |
|---|---|
| `KEY.json` | `{"format": 1, "origin": str, "rotation": [9], "translation": [2], "scale": float, "avatars": [int]}` |
| `KEY.driver.jpg` | the driver's head crop that the teacher received |
| `KEY.driver.matte.png` | its 8-bit alpha |
| `KEY.007.jpg` | the teacher's image of avatar 7 over black: colours times alpha |
| `KEY.007.matte.png` | its 8-bit alpha |

The pose is the head pose in the teacher's images, in crop coordinates (`docs/conventions.md`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.data.codec import decode_image, decode_matte, encode_image, encode_matte
from megaportraits.data.shard_index import read_member, scan_shard
from megaportraits.data.tar_writer import write_tar
from megaportraits.errors import DataError
from megaportraits.ops.geometry import HeadPose
from megaportraits.reading import FAULTS, list_files, shown

FORMAT = 1
SAMPLES_PER_SHARD = 64
_UNREADABLE: tuple[type[Exception], ...] = (cv2.error, *FAULTS)
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DistillationSample:
    """One driver frame with the teacher's images.

    Attributes:
        key: unique name without a dot.
        origin: where the driver comes from, for messages.
        driver: (s, s, 3) uint8.
        matte: (s, s) uint8, the driver's alpha.
        pose: head pose in `pictures`.
        pictures: for each avatar's number, (S, S, 4) uint8: colours times alpha, and alpha.
    """

    key: str
    origin: str
    driver: UInt8
    matte: UInt8
    pose: HeadPose
    pictures: dict[int, UInt8] = field(default_factory=dict)


def shard_path(folder: Path, index: int) -> Path:
    """The path of shard `index`."""
    return folder / f"distillation-{index:06d}.tar"


def write_shard(path: Path, samples: Iterable[DistillationSample]) -> None:
    """Write a shard with `write_tar`."""
    with write_tar(path) as add:
        for sample in samples:
            for name, content in _members(sample).items():
                add(f"{sample.key}.{name}", content)


def _members(sample: DistillationSample) -> dict[str, bytes]:
    record = {
        "format": FORMAT,
        "origin": sample.origin,
        "rotation": sample.pose.rotation.reshape(9).tolist(),
        "translation": sample.pose.translation.tolist(),
        "scale": float(sample.pose.scale),
        "avatars": sorted(sample.pictures),
    }
    members = {
        "json": json.dumps(record).encode(),
        "driver.jpg": encode_image(sample.driver),
        "driver.matte.png": encode_matte(sample.matte),
    }
    for avatar, picture in sorted(sample.pictures.items()):
        members[f"{avatar:03d}.jpg"] = encode_image(np.ascontiguousarray(picture[..., :3]))
        members[f"{avatar:03d}.matte.png"] = encode_matte(np.ascontiguousarray(picture[..., 3]))
    return members


@dataclass(frozen=True)
class _Entry:
    shard: Path
    key: str
    members: dict[str, tuple[int, int]]  # name after the key's dot: offset, size
    record: dict[str, Any]


class DistillationIndex:
    """Random access to the samples of a folder. It keeps offsets only, so that it can be passed to worker processes.

    Attributes:
        unreadable: messages about skipped shards and samples.

    Raises:
        DataError: there is no readable shard.
    """

    def __init__(self, folder: Path | str) -> None:
        self.unreadable: list[str] = []
        self._entries: list[_Entry] = []
        for shard in list_files(Path(folder), "distillation-*.tar", DataError):
            try:
                self._entries += _scan(shard, self.unreadable)
            except DataError as error:
                self.unreadable.append(error.message)
        if not self._entries:
            raise DataError(
                f"No readable shards distillation-*.tar in {folder}.", fix="Make them with `megaportraits distill`."
            )

    def __len__(self) -> int:
        return len(self._entries)

    def avatars(self, index: int) -> list[int]:
        """The numbers of the avatars in sample `index`."""
        return list(self._entries[index].record["avatars"])

    def name(self, index: int) -> str:
        """Key and origin of sample `index`, for messages."""
        return f"{self._entries[index].key} ({self._entries[index].record['origin']})"

    def read(self, index: int, avatars: Iterable[int] | None = None) -> DistillationSample:
        """Read sample `index`, with the images of all its avatars or of the given ones.

        Raises:
            DataError: a member is missing or damaged.
        """
        entry = self._entries[index]
        chosen = entry.record["avatars"] if avatars is None else avatars
        try:
            return DistillationSample(
                entry.key,
                entry.record["origin"],
                decode_image(_bytes(entry, "driver.jpg")),
                decode_matte(_bytes(entry, "driver.matte.png")),
                HeadPose(
                    np.asarray(entry.record["rotation"], np.float64).reshape(3, 3),
                    np.asarray(entry.record["translation"], np.float64),
                    float(entry.record["scale"]),
                ),
                {avatar: _picture(entry, avatar) for avatar in chosen},
            )
        except _UNREADABLE as error:
            raise DataError(
                f"Corrupt sample {entry.key} of shard {entry.shard}: {error}", fix="Remove the shard and resume."
            ) from error


def _picture(entry: _Entry, avatar: int) -> UInt8:
    colours = decode_image(_bytes(entry, f"{avatar:03d}.jpg"))
    return np.dstack([colours, decode_matte(_bytes(entry, f"{avatar:03d}.matte.png"))])


def _bytes(entry: _Entry, name: str) -> bytes:
    return read_member(entry.shard, *entry.members[name])


def _scan(shard: Path, unreadable: list[str]) -> list[_Entry]:
    """The samples of a shard; samples with damaged records are left out and noted in `unreadable`."""
    entries = []
    for clip in scan_shard(shard):
        if "json" not in clip.members:
            continue
        try:
            record = json.loads(read_member(shard, *clip.members["json"]))
            _check(record)
        except FAULTS as error:
            unreadable.append(f"Corrupt sample {clip.key} of shard {shard}: {type(error).__name__}: {error}"[:300])
        else:
            entries.append(_Entry(shard, clip.key, clip.members, record))
    return entries


def _check(record: dict[str, Any]) -> None:
    """Raise one of `FAULTS` if `record` is not a valid record of a distillation sample."""
    if record["format"] != FORMAT:
        raise ValueError(f"sample format {shown(record['format'])}, this version reads {FORMAT}")
    numbers = np.array([*record["rotation"], *record["translation"], record["scale"]], np.float64)
    if numbers.shape != (12,) or not np.isfinite(numbers).all() or numbers[-1] <= 0:
        raise ValueError(f"expected a rotation, a translation and a scale of finite numbers, got {shown(numbers)}")
    if not isinstance(record["origin"], str) or not isinstance(record["avatars"], list):
        raise TypeError("expected the name of an origin and a list of avatars")
    if not all(type(avatar) is int and avatar >= 0 for avatar in record["avatars"]):
        raise ValueError(f"expected the numbers of avatars, got {shown(record['avatars'])}")
