"""The clip format: reading returns what was written, and damage is reported."""

from __future__ import annotations

import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ClipIndex, ShardWriter
from megaportraits.data.codec import decode_coords, decode_image, encode_coords, encode_image
from megaportraits.errors import DataError, ShapeError
from megaportraits.ops.geometry import euler_to_matrix

SIZE = 32


def make_clip(key: str, frames: int = 3, *, coords: bool = True) -> tuple[ClipRecord, list[ClipFrame]]:
    rng = np.random.default_rng(sum(key.encode()))
    labels, pictures = [], []
    for j in range(frames):
        rotation = euler_to_matrix(*rng.uniform(-20, 20, 3))
        label = FrameLabels(
            rotation,
            rng.uniform(-0.1, 0.1, 2),
            1.05,
            expression=rng.uniform(0, 1, 5).astype(np.float32),
            gaze=np.array([3, -4], np.float32),
            blink=np.array([0, 1], np.float32),
        )
        image = np.full((SIZE, SIZE, 3), (10 * j, 100, 200), np.uint8)
        matte = rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        surface = rng.uniform(-1, 1, (64, 64, 4)).astype(np.float32) if coords else None
        valid = rng.random((64, 64)) < 0.5 if coords else None
        labels.append(label)
        pictures.append(ClipFrame(image, matte, label, surface, valid))
    names = ("a", "b", "c", "d", "e")
    return ClipRecord(key, "cg", "someone", "g0", SIZE, 25.0, names, tuple(labels)), pictures


def write_shard(folder: Path, index: int, *keys: str, coords: bool = True) -> None:
    with ShardWriter(folder, index) as shard:
        for key in keys:
            shard.write(*make_clip(key, coords=coords))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "a0", "a1")
    write_shard(tmp_path, 1, "b0")
    index = ClipIndex(tmp_path)
    assert [index.record(i).key for i in range(len(index))] == ["a0", "a1", "b0"]
    wanted, pictures = make_clip("b0")
    record, frames = index.read_clip(2)
    assert (record.identity, record.motion_group, record.expression_names) == (
        "someone",
        "g0",
        tuple("abcde"),
    )
    for frame, picture, label in zip(frames, pictures, wanted.frames, strict=True):
        assert np.array_equal(frame.matte, picture.matte)
        assert np.abs(frame.image.astype(int) - picture.image).max() <= 2
        assert np.array_equal(frame.labels.rotation, label.rotation)
        assert np.array_equal(frame.labels.translation, label.translation)
        assert frame.labels.expression == pytest.approx(label.expression, abs=1e-5)
        assert frame.labels.landmarks is None
        assert frame.valid is not None and np.array_equal(frame.valid, picture.valid)
        assert np.abs(frame.coords - picture.coords)[frame.valid].max() <= 1 / 65535 + 1e-6


def test_clips_without_surface_maps_are_read(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "a", coords=False)
    assert ClipIndex(tmp_path).read_frame(0, 0).coords is None


def test_the_shard_is_plain_tar_that_webdataset_groups(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "a")
    with tarfile.open(tmp_path / "clips-000000.tar") as tar:
        names = tar.getnames()
    assert names[:4] == ["a.json", "a.000.jpg", "a.000.matte.png", "a.000.coords.png"]


def test_equal_clips_give_equal_bytes(tmp_path: Path) -> None:
    write_shard(tmp_path / "one", 0, "a", "b")
    write_shard(tmp_path / "two", 0, "a", "b")
    read = [(tmp_path / part / "clips-000000.tar").read_bytes() for part in ("one", "two")]
    assert read[0] == read[1]


def test_an_unfinished_shard_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), ShardWriter(tmp_path, 0) as shard:
        shard.write(*make_clip("a"))
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_shard_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "a")
    before = (tmp_path / "clips-000000.tar").read_bytes()
    with pytest.raises(DataError, match="exists already"):
        ShardWriter(tmp_path, 0)
    assert (tmp_path / "clips-000000.tar").read_bytes() == before


def test_an_empty_folder_is_reported_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="megaportraits synth"):
        ClipIndex(tmp_path)


def test_a_corrupt_member_names_shard_and_key(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "a", "b")
    shard = tmp_path / "clips-000000.tar"
    with tarfile.open(shard) as tar:
        offset = tar.getmember("b.001.matte.png").offset_data
    content = bytearray(shard.read_bytes())
    content[offset : offset + 8] = b"\0" * 8
    shard.write_bytes(content)
    index = ClipIndex(tmp_path)
    index.read_frame(1, 0)
    with pytest.raises(DataError, match=r"b\.001\.matte\.png.*clips-000000\.tar"):
        index.read_frame(1, 1)


def test_a_truncated_shard_is_refused_by_name(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "a")
    shard = tmp_path / "clips-000000.tar"
    shard.write_bytes(shard.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"clips-000000\.tar"):
        ClipIndex(tmp_path)


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "a")
    shard = tmp_path / "clips-000000.tar"
    content = shard.read_bytes().replace(b'{"format": 1', b'{"format": 7', 1)
    shard.write_bytes(content)
    with pytest.raises(DataError, match="clip format 7"):
        ClipIndex(tmp_path).record(0)


def test_an_index_travels_to_workers(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "a")
    index = pickle.loads(pickle.dumps(ClipIndex(tmp_path)))
    assert index.read_frame(0, 2).image.shape == (SIZE, SIZE, 3)


def test_indices_behave_like_a_sequence(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, "a", "b")
    index = ClipIndex(tmp_path)
    assert index.record(-1).key == "b"
    with pytest.raises(IndexError):
        index.record(2)
    with pytest.raises(IndexError):
        index.read_frame(0, 3)


def test_the_record_is_the_documented_json(tmp_path: Path) -> None:
    record, _ = make_clip("a")
    entry = json.loads(json.dumps(record.to_json()))
    assert set(entry) == {
        "format", "key", "kind", "identity", "motion_group", "size", "fps", "expression_names", "frames"
    }  # fmt: skip
    assert len(entry["frames"][0]["rotation"]) == 9
    assert ClipRecord.from_json(entry).key == "a"


def test_points_outside_the_volume_are_not_stored_as_its_border() -> None:
    coords = np.zeros((64, 64, 4), np.float32)
    coords[0, 0, 1] = 1.2
    _, valid = decode_coords(encode_coords(coords, np.ones((64, 64), bool)))
    assert not valid[0, 0] and valid.sum() == 64 * 64 - 1


def test_colours_keep_their_order() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[..., 0] = 250
    assert decode_image(encode_image(image))[8, 8, 0] > 240


def test_a_float_image_is_refused() -> None:
    with pytest.raises(ShapeError, match="uint8"):
        encode_image(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]
