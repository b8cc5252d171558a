"""Small files from users: damaged, huge, nested, in another encoding or unreadable ones give one of our errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from megaportraits import reading
from megaportraits.config import TrainBaseConfig, load_config
from megaportraits.data.clips import ClipIndex
from megaportraits.data.gaze_labels import read_gaze_labels
from megaportraits.errors import ConfigError, DataError, MediaError, MegaPortraitsError, WeightsError
from megaportraits.evaluation.pairs import read_manifest
from megaportraits.media.files import check_input, check_output
from megaportraits.models.storage import load_base, load_student
from megaportraits.prepare.sources import find_items
from megaportraits.reading import MOST_VALUES, MOST_YAML, parse_json, parse_table, parse_yaml, read_text
from megaportraits.runtimes.graph import read_info

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
MERGES = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, f"at most {MOST_VALUES:,} values"),
        (MERGES, f"at most {MOST_VALUES:,} values"),
        ("a: &a [*a]\n", "names the value that holds it"),
        ("[" * 50_000, "nested too deep"),
        ("? " * 20_000, "nested too deep"),
        ("a: [" + "1, " * (MOST_YAML // 3) + "]", "at most 100,000 characters"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: 2001-99-99", "not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: !!timestamp never", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("{", "not valid YAML"),
    ],
)
def test_yaml_that_multiplies_nests_or_is_none_is_refused_at_once(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "file.yaml", ConfigError)


def test_aliases_and_merges_that_stay_small_are_read() -> None:
    text = "base: &base {steps: 7, seed: 1}\nrun: {<<: *base, seed: 2}\nagain: [*base, *base]\n"
    base = {"steps": 7, "seed": 1}
    assert parse_yaml(text, "", ConfigError) == {"base": base, "run": {"steps": 7, "seed": 2}, "again": [base, base]}
    assert parse_yaml("", "", ConfigError) is None


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"a":' * 60_000, "", "\x00", "{'a': 1}"])
def test_json_that_nests_or_is_none_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(DataError, match=r"notes\.json is not valid JSON"):
        parse_json(text, "notes.json", DataError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("extends: nano".encode("utf-16"), "expected UTF-8 text, got UTF-16"),
        (bytes(range(256)), "expected UTF-8 text, got other bytes"),
        (b"x" * 2000, "at most 1,000 bytes, got 2,000"),
    ],
)
def test_a_file_that_is_no_text_is_reported_with_its_encoding_or_size(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_text(path, DataError, most=1000)
    path.write_bytes(b"\xef\xbb\xbfname")  # as Excel and Notepad write it
    assert read_text(path, DataError) == "name"


@pytest.mark.posix
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="expected a file, got something else"):
        read_text(tmp_path / "pipe", DataError)


def test_a_field_without_an_end_is_an_error_of_ours() -> None:
    with pytest.raises(DataError, match="not a readable table"):
        parse_table("a," + "x" * 200_000, "table.csv", DataError)


def test_values_of_any_kind_can_be_shown() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "list" in reading.shown(deep) and "int" in reading.shown(10**5000)
    assert len(reading.shown("x" * 1000)) == 80


READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "config": (lambda path: load_config(TrainBaseConfig, path), "a.yaml"),
    "weights": (load_base, "a.safetensors"),
    "student": (load_student, "a.safetensors"),
    "graph": (read_info, "a.onnx"),
    "input": (check_input, "a.png"),
    "output": (lambda path: check_output(path, overwrite=False), "a.mp4"),
    "manifest": (read_manifest, "a.csv"),
    "labels": (read_gaze_labels, "a.csv"),
    "shards": (ClipIndex, "shards"),
    "items": (lambda path: find_items([str(path)]), "a.csv"),
}


@contextmanager
def a_folder_that_one_may_not_enter(folder: Path) -> Iterator[Path]:
    """Root may enter every folder: it becomes nobody for that time."""
    folder.mkdir()
    folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
@pytest.mark.parametrize("name", READERS)
def test_a_folder_that_one_may_not_enter_is_an_error_of_ours(name: str, tmp_path: Path) -> None:
    read, file = READERS[name]
    with suppress(MegaPortraitsError):
        read(tmp_path / "missing" / file)  # lazy imports happen now: the user "nobody" may not read the packages
    with a_folder_that_one_may_not_enter(tmp_path / "closed") as closed, pytest.raises(MegaPortraitsError):
        read(closed / file)


@pytest.mark.parametrize("name", READERS)
def test_a_name_of_more_than_255_bytes_is_an_error_of_ours(name: str, tmp_path: Path) -> None:
    read, file = READERS[name]
    with pytest.raises(MegaPortraitsError):
        read(tmp_path / ("x" * 300 + file))


def test_the_reason_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be accessed: File name too long"):
        load_base(tmp_path / f"{'x' * 300}.safetensors")
    with pytest.raises(MediaError, match="cannot be accessed: File name too long"):
        check_input(tmp_path / ("x" * 300))
