from __future__ import annotations

from pathlib import Path

import pytest

from megaportraits.errors import DataError, MediaError
from megaportraits.evaluation.pairs import Pair, crossed, key_of, read_manifest, write_manifest


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "with space, and comma"
    folder.mkdir()
    found = [folder / f"{name}.mp4" for name in ("a", "b", "c")]
    for file in found:
        file.write_bytes(b"x")
    return found


def test_a_manifest_comes_back_as_it_was_wherever_its_folder_lies(files: list[Path], tmp_path: Path) -> None:
    pairs = [
        Pair("a", "self", files[0], 8, files[0], 0, 2, 60),
        Pair("b-c", "cross", files[1], None, files[2], 5, 1, 7),
    ]
    path = tmp_path / "pairs.csv"
    write_manifest(path, pairs)
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    found = read_manifest(moved / "pairs.csv")
    assert [(p.key, p.protocol, p.source_frame, p.first, p.step, p.frames) for p in found] == [
        ("a", "self", 8, 0, 2, 60),
        ("b-c", "cross", None, 5, 1, 7),
    ]
    assert all(p.source.is_file() and p.driver.is_file() for p in found)
    before = (moved / "pairs.csv").read_bytes()
    write_manifest(moved / "pairs.csv", found, overwrite=True)
    assert (moved / "pairs.csv").read_bytes() == before
    with pytest.raises(MediaError, match="exists"):
        write_manifest(moved / "pairs.csv", found)
    moved.rename(tmp_path)


def test_all_problems_of_a_manifest_are_reported_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    (tmp_path / "a.mp4").write_bytes(b"x")
    head = "pair,protocol,source,source_frame,driver,first,step,frames\n"
    lines = ["a,self,a.mp4,0,a.mp4,0,2", "b/c,self,a.mp4,0,a.mp4,0,2,5", "d,best,a.mp4,,a.mp4,0,2,5"]
    lines += ["e,self,a.mp4,x,a.mp4,0,2,5", "f,self,a.mp4,,a.mp4,0,0,5", "g,cross,b.png,,a.mp4,0,2,5"]
    path.write_text(head + "\n".join(lines))
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    for number, part in enumerate(("8 values", "b/c", "best", "whole", "at least 1", "b.png"), 2):
        assert any(f"line {number}" in line and part in line for line in caught.value.message.splitlines()), part
    path.write_text("nothing,of,that\n")
    with pytest.raises(DataError, match="not a manifest"):
        read_manifest(path)
    path.write_text(head + "a,self,a.mp4,0,a.mp4,0,2,5\n" * 2)
    with pytest.raises(DataError, match="more than once: self/a"):
        read_manifest(path)


def test_crossing_is_balanced_never_with_itself_and_complete_when_there_is_room(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}" for i in range(5)]
    all_pairs = crossed(files, files, 100)
    assert sorted(all_pairs) == sorted((a, b) for a in files for b in files if a != b)
    part = crossed(files, files, 10)
    for file in files:
        assert sum(source == file for source, _ in part) == 2
        assert sum(driver == file for _, driver in part) == 2
    assert part == sorted(part) == crossed(files, files, 10)
    stills = [tmp_path / "s1", tmp_path / "s2"]
    assert {driver for _, driver in crossed(stills, files, 6)} >= set(files[:4])


def test_keys_are_file_names(tmp_path: Path) -> None:
    assert key_of(tmp_path / "a b.mp4", tmp_path / "a b.mp4") == "a_b"
    assert key_of(tmp_path / "mona lisa.jpg", tmp_path / "d12.mp4") == "mona_lisa-d12"
