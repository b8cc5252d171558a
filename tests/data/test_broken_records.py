"""Shards with damaged records and malicious archives: a bad record is replaced and counted, a bad shard is reported."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from megaportraits.data.clips import ClipIndex
from megaportraits.data.codec import MOST_PIXELS, decode_image, decode_matte
from megaportraits.data.distillation import DistillationIndex, DistillationSample, shard_path, write_shard
from megaportraits.data.frames import FrameDataset
from megaportraits.data.pairs import PairDataset
from megaportraits.data.photos import PhotoDataset
from megaportraits.data.shard_index import members, read_member, scan_shard
from megaportraits.errors import DataError
from megaportraits.ops.geometry import HeadPose


def rewrite(shard: Path, change: Callable[[str, bytes], bytes]) -> None:
    """The same archive with other contents."""
    with tarfile.open(shard) as old:
        parts = [(member.name, old.extractfile(member).read()) for member in old]  # type: ignore[union-attr]
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as new:
        for name, content in parts:
            content = change(name, content)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))


def with_record(clips: Path, key: str, change: Callable[[dict[str, Any]], Any] | bytes) -> Path:
    def one(name: str, content: bytes) -> bytes:
        if name != f"{key}.json":
            return content
        return change if isinstance(change, bytes) else json.dumps(change(json.loads(content))).encode()

    rewrite(clips / "clips-000000.tar", one)
    return clips


def first_frame(**values: Any) -> Callable[[dict[str, Any]], Any]:
    def change(record: dict[str, Any]) -> Any:
        record["frames"][0] |= values
        return record

    return change


BROKEN: dict[str, Callable[[dict[str, Any]], Any] | bytes] = {
    "no JSON": b"{",
    "nested": b"[" * 50_000,
    "not UTF-8": b"\xff\xfe",
    "a list": lambda record: [record],
    "no frames": lambda record: record | {"frames": []},
    "frames of another kind": lambda record: record | {"frames": [1]},
    "a huge size": lambda record: record | {"size": 10**9},
    "an infinite size": lambda record: record | {"size": float("inf")},
    "names of another kind": lambda record: record | {"expression_names": 5},
    "fewer names": lambda record: record | {"expression_names": ["jawOpen"]},
    "a group of another kind": lambda record: record | {"motion_group": [1]},
    "a short rotation": first_frame(rotation=[1, 2]),
    "no number": first_frame(translation=["a", 0]),
    "NaN": first_frame(translation=[float("nan"), 0]),
    "no scale": first_frame(scale=0),
    "few landmarks": first_frame(landmarks=[[0, 0]]),
    "few scores": first_frame(scores=[0.5]),
    "gaze in three": first_frame(gaze=[0, 0, 0]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_replaced_and_counted(name: str, clips: Path) -> None:
    with_record(clips, "c2", BROKEN[name])
    index = ClipIndex(clips)
    with pytest.raises(DataError, match=r"Corrupt member c2\.json of shard"):
        index.record(2)
    assert index.record(1).key == "c1" and index.expression_names() == ("jawOpen", "eyeBlink_L", "eyeBlink_R")
    data = PairDataset(clips, length=40, size=32, cross_identity=0.5, expression_names=None)
    items = [data[k] for k in range(40)]
    assert 2 not in {int(item.identity) for item in items}
    assert sum(int(item.unreadable) for item in items) > 0


def test_every_data_set_starts_with_a_broken_record(clips: Path) -> None:
    with_record(clips, "c0", b"{")
    frames = FrameDataset(clips, length=30, size=32)
    assert sum(int(frames[k].unreadable) for k in range(30)) > 0
    photos = PhotoDataset(clips, length=3, size=32)
    assert 0 not in photos.clips and int(photos[0].unreadable) == 0


def test_no_readable_record_at_all_is_reported(clips: Path) -> None:
    rewrite(clips / "clips-000000.tar", lambda name, content: b"{" if name.endswith(".json") else content)
    with pytest.raises(DataError, match="No record of the clips in"):
        FrameDataset(clips, length=1, size=32)
    with pytest.raises(DataError, match="0 of 0 photographs"):
        PhotoDataset(clips, length=1, size=32)
    with pytest.raises(DataError, match="Corrupt member"):
        PairDataset(clips, length=1, size=32)[0]


def header(name: str, size: bytes) -> bytes:
    """A tar header with a right checksum, whatever its size says."""
    member = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    member[124:136] = size.ljust(12, b"\0")
    member[148:156] = b" " * 8
    member[148:156] = f"{sum(member):06o}\0 ".encode()
    return bytes(member)


@pytest.mark.parametrize(
    "size", [b"-0000001000", b"+0000000010", b"0_1000", b"", b"\x80\xff\xff\xff", b"77777777777", b"9"]
)
def test_a_size_that_no_member_can_have_is_refused_at_once(size: bytes, tmp_path: Path) -> None:
    shard = tmp_path / "clips-000000.tar"
    shard.write_bytes(header("a.json", b"0") + header("a.000.jpg", size) + bytes(1024))
    with pytest.raises(DataError, match="not a readable tar shard at byte 512"):
        scan_shard(shard)
    samples = tmp_path / "distillation-000000.tar"
    shutil.copy(shard, samples)
    with pytest.raises(DataError, match="No readable shards"):
        DistillationIndex(tmp_path)


def test_a_flipped_bit_in_a_header_is_found(clips: Path) -> None:
    shard = clips / "clips-000000.tar"
    content = bytearray(shard.read_bytes())
    content[3] ^= 1  # of the first name
    shard.write_bytes(content)
    with pytest.raises(DataError, match="checksum is wrong"):
        scan_shard(shard)


def test_members_are_those_that_tarfile_finds(clips: Path) -> None:
    shard = clips / "clips-000000.tar"
    with tarfile.open(shard) as archive:
        expected = [(m.name, archive.extractfile(m).read()) for m in archive]  # type: ignore[union-attr]
    assert [(name, read_member(shard, at, size)) for name, at, size in members(shard)] == expected


def test_a_picture_larger_than_any_frame_is_not_decoded() -> None:
    large = cv2.imencode(".png", np.zeros((16, MOST_PIXELS + 1), np.uint8))[1].tobytes()
    for decode in (decode_image, decode_matte):
        with pytest.raises(ValueError, match=f"a picture of {MOST_PIXELS + 1} x 16, expected at most"):
            decode(large)


def test_a_broken_lesson_is_left_out_and_named(tmp_path: Path) -> None:
    pose, square = HeadPose(np.eye(3), np.zeros(2), 1.0), np.zeros((16, 16, 3), np.uint8)
    samples = [
        DistillationSample(f"{n:08d}", "x", square, square[..., 0], pose, {0: np.zeros((16, 16, 4), np.uint8)})
        for n in range(6)
    ]
    write_shard(shard_path(tmp_path, 0), samples)
    broken = {
        "00000000.json": b"{",
        "00000001.json": b"[]",
        "00000002.json": b"[" * 50_000,
        "00000003.json": json.dumps({"format": 1, "rotation": [1], "translation": [0], "scale": 1}).encode(),
        "00000004.json": b"\xff",
    }
    rewrite(shard_path(tmp_path, 0), lambda name, content: broken.get(name, content))
    index = DistillationIndex(tmp_path)
    assert len(index) == 1 and index.read(0).key == "00000005"
    assert [f"sample 0000000{n} of" in told for n, told in enumerate(index.unreadable)] == [True] * 5
