"""The index of a folder of shards: it only makes opening faster, and never lists clips that do not exist."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from megaportraits import weights
from megaportraits.data import clip_table, index
from megaportraits.data.clip_table import ClipTable, join, scan
from megaportraits.data.clips import ClipIndex, ShardWriter
from megaportraits.data.dataset import SampleDataset
from megaportraits.data.frames import FrameDataset
from megaportraits.data.index import INDEX, open_table, refresh
from megaportraits.data.pairs import PairDataset
from megaportraits.data.photos import PhotoDataset
from megaportraits.errors import DataError
from megaportraits.media.locks import try_lock
from tests.conftest import write_clips
from tests.data.test_broken_records import with_record
from tests.data.test_clips import make_clip, write_shard


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the shards whose records are read."""
    names: list[str] = []

    def counted(shard: Path, *, records: bool = True) -> ClipTable:
        if records:
            names.append(shard.name)
        return scan(shard, records=records)

    monkeypatch.setattr(index, "scan", counted)
    return names


def age(folder: Path, seconds: float = 100) -> None:
    """Shards that were finished some time before they are indexed."""
    for shard in folder.glob("clips-*.tar"):
        status = shard.stat()
        os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns - int(seconds * 1e9)))


def identities(table: ClipTable) -> list[str]:
    return [summary.identity for summary in table.summaries() if summary is not None]


def items(dataset: SampleDataset[Any], count: int = 12) -> list[dict[str, bytes]]:
    return [{name: value.numpy().tobytes() for name, value in dataset[k].tensors().items()} for k in range(count)]


def everything(folder: Path | str, labels: Path) -> list[list[dict[str, bytes]]]:
    pairs = PairDataset(
        folder, length=12, size=16, cross_identity=0.5, expressive=0.3, across_clips=True, expression_names=None
    )
    kwargs = {"length": 12, "size": 16, "seed": 4}
    sets = [pairs, FrameDataset(folder, **kwargs), FrameDataset(folder, labels=labels, **kwargs)]  # type: ignore[arg-type]
    return [items(dataset) for dataset in [*sets, PhotoDataset(folder, **kwargs)]]  # type: ignore[arg-type]


def test_every_item_is_the_same_bytes_with_an_index_made_now_one_from_a_file_and_none(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    with_record(clips, "c2", b"{")
    write_shard(clips, 1, "v-000", "v-001", "w-000")
    mix = f"{clips} * 0.7 + {write_clips(tmp_path / 'more')} * 0.3"
    (tmp_path / "labels.csv").write_text("key,frame,yaw,pitch,blink\nc4,3,1,2,0\nv-001,0,1,2,0\nc1,2,,,1\nc4,0,1,1,1\n")
    now = everything(mix, tmp_path / "labels.csv")
    assert sorted(set(read)) == ["clips-000000.tar", "clips-000001.tar"]
    read.clear()
    kept = everything(mix, tmp_path / "labels.csv")
    assert read == []

    def unindexed(line: Path | str, **kwargs: object) -> ClipIndex:
        return ClipIndex(line, skip_unreadable=True, indexed=False)

    for room in ("frames", "photos"):
        monkeypatch.setattr(f"megaportraits.data.{room}.ClipIndex", unindexed)
    monkeypatch.setattr("megaportraits.data.pairs.open_clips", unindexed)
    monkeypatch.setattr("megaportraits.data.pairs.ClipIndex", ClipIndex)
    without = everything(mix, tmp_path / "labels.csv")
    assert now == kept == without
    assert any(item["cross"] == b"\1" for item in now[0]) and any(item["unreadable"] != bytes(8) for item in now[1])


def test_opening_an_indexed_folder_reads_no_record(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh(clips)

    def never(*arguments: object) -> None:
        raise AssertionError("a record is read")

    monkeypatch.setattr(clip_table, "parse_record", never)
    monkeypatch.setattr("megaportraits.data.clips.parse_record", never)
    opened = ClipIndex(clips)
    assert opened.groups == {"g0": [0, 1], "g1": [2, 3], "g2": [4, 5]}
    assert opened.expression_names() == ("jawOpen", "eyeBlink_L", "eyeBlink_R")
    assert len(FrameDataset(clips, length=0, size=16)) == 24
    assert PhotoDataset(clips, length=1, size=16).clips == list(range(6))
    assert [summary.identity for _, summary in opened.summaries()] == [f"p{n}" for n in range(6)]


def test_only_shards_that_are_new_or_changed_are_read_again(tmp_path: Path, read: list[str]) -> None:
    for number in range(4):
        write_shard(tmp_path, number, f"a{number}", f"b{number}")
    age(tmp_path)
    assert len(open_table(tmp_path)) == 8 and len(read) == 4
    read.clear()
    (tmp_path / "clips-000000.tar").unlink()
    write_shard(tmp_path, 5, "new")
    (tmp_path / "clips-000002.tar").unlink()
    write_shard(tmp_path, 2, "other")
    table = open_table(tmp_path)
    assert read == ["clips-000002.tar", "clips-000005.tar"]
    assert [table.key(n) for n in range(len(table))] == ["a1", "b1", "other", "a3", "b3", "new"]
    refs = ClipIndex(tmp_path)
    assert [refs.record(n).key for n in range(len(refs))] == ["a1", "b1", "other", "a3", "b3", "new"]


def test_a_shard_that_was_only_copied_is_known_and_one_with_other_records_is_not(
    tmp_path: Path, read: list[str]
) -> None:
    write_shard(tmp_path, 0, "a", "b")
    age(tmp_path)
    open_table(tmp_path)
    read.clear()
    shard = tmp_path / "clips-000000.tar"
    os.utime(shard)  # as `cp` leaves it
    open_table(tmp_path)
    assert read == []
    content = shard.read_bytes()
    changed = content.replace(b'"identity": "someone"', b'"identity": "another"')
    assert len(changed) == len(content)
    shard.write_bytes(changed)
    assert identities(open_table(tmp_path)) == ["another", "another"]
    assert read == ["clips-000000.tar"]


def test_a_change_within_the_clocks_step_is_noticed(tmp_path: Path, read: list[str]) -> None:
    write_shard(tmp_path, 0, "a")
    shard = tmp_path / "clips-000000.tar"
    before = shard.stat()
    open_table(tmp_path)
    shard.write_bytes(shard.read_bytes().replace(b'"identity": "someone"', b'"identity": "another"'))
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert identities(open_table(tmp_path)) == ["another"]
    assert len(read) == 2


@pytest.mark.parametrize("damage", ["torn", "empty", "noise", "pickle", "version", "lengths"])
def test_a_damaged_index_is_made_again(tmp_path: Path, damage: str, read: list[str]) -> None:
    write_shard(tmp_path, 0, "a", "b")
    whole = open_table(tmp_path)
    file = tmp_path / INDEX
    content = file.read_bytes()
    if damage == "lengths":
        numbers = {**whole.numbers, "clips": np.array([5])}
        table = ClipTable(whole.numbers, whole.texts)
        table.numbers = numbers
        content = table.to_bytes(0)
    if damage == "version":
        tensors = load(content)
        tensors["made"][1] += 1
        content = save(tensors)
    file.write_bytes(
        {
            "torn": content[: len(content) // 2],
            "empty": b"",
            "noise": bytes(range(256)) * 20,
            "pickle": pickle.dumps({"a": 1}),
        }.get(damage, content)
    )
    read.clear()
    assert [open_table(tmp_path).key(n) for n in range(2)] == ["a", "b"]
    assert read == ["clips-000000.tar"]
    read.clear()
    open_table(tmp_path)
    assert read == []


def test_a_folder_that_cannot_be_written_has_its_index_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path / "cache"))
    folder = tmp_path / "data"
    write_shard(folder, 0, "a")
    allowed = index._is_writable
    monkeypatch.setattr(index, "_is_writable", lambda place: place != folder and allowed(place))
    first = open_table(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["clips-000000.tar"]
    assert len(list((tmp_path / "cache" / "indices").glob(f"*/{INDEX}"))) == 1
    read.clear()
    assert open_table(folder).key(0) == first.key(0) and read == []
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(index, "_is_writable", lambda place: False)
    assert open_table(folder).key(0) == "a" and len(read) == 1
    assert not (tmp_path / "cache").exists() and len(list(folder.iterdir())) == 1


def test_a_process_waits_for_another_ones_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard(tmp_path, 0, "a")
    made = (join([scan(tmp_path / "clips-000000.tar")])).to_bytes(time.time_ns())
    other = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)  # its own descriptor, as another process's
    assert try_lock(other)

    def go_on(seconds: float) -> None:
        (tmp_path / INDEX).write_bytes(made)
        os.close(other)

    monkeypatch.setattr(index.time, "sleep", go_on)
    assert open_table(tmp_path).key(0) == "a"
    assert read == []
    assert "Waiting for another process" in capsys.readouterr().err


def test_a_first_opening_tells_what_it_reads_and_the_next_one_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        write_shard(tmp_path, number, f"k{number}", coords=False)
    open_table(tmp_path)
    told = capsys.readouterr().err.splitlines()
    assert "Reading the records of 20 new or changed shards" in told[0] and "20 of 20 shards" in told[-1]
    open_table(tmp_path)
    assert capsys.readouterr().err == ""


def test_a_torn_shard_is_remembered_and_read_again_when_it_is_whole(tmp_path: Path, read: list[str]) -> None:
    for number in range(2):
        write_shard(tmp_path, number, f"a{number}")
    shard = tmp_path / "clips-000001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:20_000])
    age(tmp_path)
    for _ in range(2):
        opened = ClipIndex(tmp_path, skip_unreadable=True)
        assert len(opened) == 1 and str(shard) in opened.unreadable[0]
        with pytest.raises(DataError, match=r"clips-000001\.tar is not a readable tar shard"):
            ClipIndex(tmp_path)
    assert len(read) == 2
    shard.write_bytes(whole)
    assert len(ClipIndex(tmp_path)) == 2 and len(read) == 3


def test_a_table_is_the_join_of_its_shards_and_its_file(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, 0) as shard:
        shard.write(*make_clip("a", 2))
    write_clips(tmp_path / "more")
    (tmp_path / "more" / "clips-000000.tar").rename(tmp_path / "clips-000001.tar")
    table = join([scan(tmp_path / f"clips-00000{n}.tar") for n in range(2)])
    again, made = ClipTable.from_bytes(join([table.part(0), table.part(1)]).to_bytes(7))
    assert made == 7 and len(again) == 7
    for clip, one, two in zip(range(7), again.summaries(), table.summaries(), strict=True):
        assert again.members(clip, tmp_path) == table.members(clip, tmp_path)
        assert one is not None and two is not None
        assert (one.key, one.motion_group, one.expression_names) == (two.key, two.motion_group, two.expression_names)
    assert again.places() == [(0, 0), *((1, n) for n in range(6))]


def test_an_index_travels_to_workers_without_its_folder(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "a")
    opened = pickle.loads(pickle.dumps(ClipIndex(tmp_path)))
    (tmp_path / INDEX).unlink()
    assert opened.read_frame(0, 1).matte.shape == (32, 32)
