from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest

from megaportraits.errors import DataError, MediaError
from megaportraits.prepare.sources import SourceItem, find_items, local_copy


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def by_stem(items: list[SourceItem]) -> dict[str, SourceItem]:
    return {Path(item.address).stem: item for item in items}


def test_a_folder_gives_its_media_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "deep/er/b.PNG", "notes.txt", ".hidden.mp4")
    found = find_items([str(tmp_path)])
    assert sorted(Path(item.address).name for item in found) == ["a.mp4", "b.PNG"]
    assert all(item.identity is None and item.split is None for item in found)


def test_a_glob_takes_whatever_it_names_and_nothing_twice(tmp_path: Path) -> None:
    touch(tmp_path, "a.odd", "b.odd", "c.mp4")
    found = find_items([str(tmp_path / "*.odd"), str(tmp_path / "a.odd")])
    assert sorted(Path(item.address).name for item in found) == ["a.odd", "b.odd"]


def test_what_does_not_exist_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_items([str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match="no videos"):
        find_items([str(tmp_path)])


def test_voxceleb2_folders_name_people_and_splits(tmp_path: Path) -> None:
    touch(tmp_path, "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "test/mp4/id00017/OLguY5ofUrY/00039.mp4")
    found = by_stem(find_items([str(tmp_path)], dataset="voxceleb2"))
    assert (found["00001"].identity, found["00001"].split) == ("id00012", "train")
    assert (found["00039"].identity, found["00039"].split) == ("id00017", "val")


def test_grid_folders_name_people(tmp_path: Path) -> None:
    touch(tmp_path, "s7/video/bbaf2n.mpg", "s12/lwbs9a.mpg")
    found = by_stem(find_items([str(tmp_path)], dataset="grid"))
    assert {stem: item.identity for stem, item in found.items()} == {"bbaf2n": "s7", "lwbs9a": "s12"}


def test_celebvhq_labels_cut_and_box_whole_videos_and_leave_cut_clips(tmp_path: Path) -> None:
    box = {"left": 0.25, "top": 0.0, "right": 0.75, "bottom": 0.8}
    entry = {"ytb_id": "AAA", "duration": {"start_sec": 3.5, "end_sec": 9.0}, "bbox": box}
    clips = {"AAA_0": entry, "BBB_0": {**entry, "ytb_id": "BBB"}, "gone_0": {**entry, "ytb_id": "gone"}}
    (tmp_path / "celebvhq_info.json").write_text(json.dumps({"clips": clips}))
    touch(tmp_path, "raw/AAA.mp4", "cut/BBB_0.mp4")
    found = by_stem(find_items([str(tmp_path)], dataset="celebvhq"))
    assert set(found) == {"AAA", "BBB_0"}
    assert (found["AAA"].start, found["AAA"].end, found["AAA"].box) == (3.5, 9.0, (0.25, 0.0, 0.75, 0.8))
    assert found["BBB_0"].start is None and found["BBB_0"].box is None


def test_ffhq_has_splits_and_ages(tmp_path: Path) -> None:
    touch(tmp_path, "pictures/00000/00000.png", "pictures/00000/00001.png")
    (tmp_path / "pictures/ffhq-dataset-v2.json").write_text(json.dumps({"1": {"category": "validation"}}))
    ages = tmp_path / "json"
    ages.mkdir()
    (ages / "00000.json").write_text(json.dumps([{"faceAttributes": {"age": 7.0}}]))
    (ages / "00001.json").write_text("[]")
    found = by_stem(find_items([str(tmp_path / "pictures")], dataset="ffhq", ages=ages))
    assert (found["00000"].age, found["00000"].split, found["00000"].identity) == (7.0, None, "ffhq-00000")
    assert (found["00001"].age, found["00001"].split) == (None, "val")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_says_everything_and_paths_are_relative_to_it(tmp_path: Path, kind: str) -> None:
    rows = [
        {"path": "v/a.mp4", "identity": "ann", "split": "test", "start": 1.0, "end": 2.0, "age": 30},
        {"path": "https://example.org/b.mp4", "identity": None, "split": None, "start": None, "end": None, "age": None},
    ]
    path = tmp_path / f"list.{kind}"
    if kind == "csv":
        lines = [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
        path.write_text("\n".join([",".join(rows[0]), *lines]))
    else:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), path)
    found = by_stem(find_items([str(path)]))
    assert found["a"] == SourceItem(str(tmp_path / "v/a.mp4"), "ann", "val", 1.0, 2.0, None, 30.0)
    assert found["b"] == SourceItem("https://example.org/b.mp4")


def test_a_manifest_with_nonsense_names_its_row(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,start\na.mp4,soon\n")
    with pytest.raises(DataError, match="row 1"):
        find_items([str(tmp_path / "list.csv")])


def test_an_fsspec_address_is_listed_and_fetched_for_the_time_of_a_block(tmp_path: Path) -> None:
    with fsspec.open("memory://corpus/id1/a.mp4", "wb") as file:
        file.write(b"remote bytes")
    (item,) = find_items(["memory://corpus"])
    assert item.address.endswith("/corpus/id1/a.mp4") and "://" in item.address
    with local_copy(item.address) as path:
        assert path.read_bytes() == b"remote bytes"
    assert not path.exists()
    with pytest.raises(MediaError, match="no such file"), local_copy("memory://corpus/none.mp4"):
        pass


def test_keys_differ_by_what_is_cut_out_and_not_by_what_is_known_about_it() -> None:
    item = SourceItem("/data/My clip (1).mp4")
    assert item.key.startswith("My_clip_1-") and "." not in item.key and "/" not in item.key
    assert item.key == SourceItem(item.address, identity="ann", split="val", age=30.0).key
    cuts = [
        item,
        SourceItem(item.address, start=1.0),
        SourceItem(item.address, end=1.0),
        SourceItem(item.address, box=(0, 0, 1, 1)),
    ]
    assert len({cut.key for cut in cuts}) == 4
