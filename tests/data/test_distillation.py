from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from megaportraits.data.distillation import DistillationIndex, DistillationSample, shard_path, write_shard
from megaportraits.data.distillation_dataset import DistillationDataset, DistillationPreview, spread
from megaportraits.errors import DataError
from megaportraits.ops.geometry import HeadPose, euler_to_matrix
from tests.data.test_batches import same


def sample(number: int, avatars: list[int], size: int = 32) -> DistillationSample:
    """Smooth pictures, which JPEG keeps; every avatar has a colour of its own."""
    ramp = np.linspace(40, 200, size)[None, :, None] + np.zeros((size, 1, 3))
    pictures = {
        a: np.dstack([ramp * [[[1, a / 4, 0.5]]], np.full((size, size), 255 - number)]).astype(np.uint8)
        for a in avatars
    }
    pose = HeadPose(euler_to_matrix(10.0, -5.0, number), np.array([0.01 * number, -0.02]), 1.1)
    matte = np.full((size, size), 10 * number, np.uint8)
    return DistillationSample(f"{number:08d}", f"clip {number}", ramp.astype(np.uint8), matte, pose, pictures)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shard(shard_path(tmp_path, 0), [sample(0, [0, 1]), sample(1, [1, 2])])
    write_shard(shard_path(tmp_path, 1), [sample(2, [0, 2]), sample(3, [0, 1, 2])])
    return tmp_path


def test_a_lesson_comes_back_from_its_shard(folder: Path) -> None:
    index, original = DistillationIndex(folder), sample(3, [0, 1, 2])
    assert len(index) == 4 and index.avatars(1) == [1, 2]
    read = index.read(3)
    np.testing.assert_array_equal(read.matte, original.matte)
    np.testing.assert_allclose(read.pose.rotation, original.pose.rotation)
    assert (read.origin, read.pose.scale, sorted(read.pictures)) == ("clip 3", 1.1, [0, 1, 2])
    for avatar, picture in original.pictures.items():
        assert np.abs(read.pictures[avatar].astype(int) - picture).max() <= 4
        np.testing.assert_array_equal(read.pictures[avatar][..., 3], picture[..., 3])


def test_webdataset_reads_the_shards(folder: Path) -> None:
    samples = list(webdataset.WebDataset(str(shard_path(folder, 0)), shardshuffle=False))
    assert [s["__key__"] for s in samples] == ["00000000", "00000001"]
    assert {"json", "driver.jpg", "driver.matte.png", "001.jpg", "001.matte.png"} <= set(samples[0])


def test_equal_lessons_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / name, [sample(0, [0, 1])])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_shard_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    def broken():
        yield sample(0, [0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(shard_path(tmp_path, 0), broken())
    assert list(tmp_path.iterdir()) == []


def test_items_depend_on_seed_and_number_alone(folder: Path) -> None:
    a, b = (DistillationDataset(folder, length=50, driver_size=16, size=32, seed=3) for _ in range(2))
    forward = [a[k] for k in range(50)]
    for k in (49, 0, 17):
        assert same(b[k], forward[k])
    assert {(int(i.sample), int(i.avatar)) for i in forward} == {
        (0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 2), (3, 0), (3, 1), (3, 2),
    }  # fmt: skip
    other = DistillationDataset(folder, length=50, driver_size=16, size=32, seed=4)
    assert any(int(other[k].sample) != int(forward[k].sample) for k in range(50))


def test_items_have_the_sizes_that_were_asked_for(folder: Path) -> None:
    item = DistillationDataset(folder, length=1, driver_size=16, size=64, seed=0)[0]
    assert item.driver.image.shape == (3, 16, 16) and item.driver.matte.shape == (1, 16, 16)
    assert item.image.shape == (3, 64, 64) and item.matte.shape == (1, 64, 64)
    assert item.image.dtype == torch.uint8


def test_a_sample_takes_avatars_in_turn_and_nothing_twice(folder: Path) -> None:
    index = DistillationIndex(folder)
    assert [a for _, a in spread(index, 6)] == [0, 1, 2, 0, 1, 2]
    everything = spread(index, 1000)
    assert len(set(everything)) == len(everything) == 9
    sample = DistillationPreview(folder, length=3, driver_size=16, size=32)
    assert [int(sample[k].avatar) for k in range(3)] == [0, 1, 2]


def test_a_torn_shard_is_left_out_and_named(folder: Path) -> None:
    shard_path(folder, 0).write_bytes(shard_path(folder, 0).read_bytes()[:1000])
    index = DistillationIndex(folder)
    assert len(index) == 2 and "distillation-000000.tar" in index.unreadable[0]
    shard_path(folder, 1).unlink()
    with pytest.raises(DataError, match="No readable shards"):
        DistillationIndex(folder)


def test_a_damaged_member_is_drawn_again(folder: Path) -> None:
    with tarfile.open(shard_path(folder, 0)) as tar:
        member = tar.getmember("00000000.driver.jpg")
        offset, size = member.offset_data, member.size
    content = bytearray(shard_path(folder, 0).read_bytes())
    content[offset : offset + size] = bytes(size)
    shard_path(folder, 0).write_bytes(bytes(content))
    data = DistillationDataset(folder, length=30, driver_size=16, size=32)
    items = [data[k] for k in range(30)]
    assert all(int(i.sample) != 0 for i in items) and sum(int(i.unreadable) for i in items) > 0
    with pytest.raises(DataError, match="Corrupt sample 00000000"):
        data.index.read(0)
