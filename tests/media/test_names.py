"""Names of inputs and outputs are file names: URLs and `-` are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from megaportraits.errors import MediaError
from megaportraits.media import check_input, check_output, check_outputs
from megaportraits.media.files import as_address, output_file


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("http://host/person.jpg", "http://host/person.jpg: addresses are not read"),
        ("https://host/a b.mp4?x=1", "https://host/a b.mp4?x=1: addresses are not read"),
        ("file:///home/me/person.jpg", "file:///home/me/person.jpg: addresses are not read"),
        ("rtsp://camera", "rtsp://camera: addresses are not read"),
        ("-", "-: standard input is not read"),
    ],
)
def test_addresses_and_standard_input_are_not_read_and_that_is_said(name: str, said: str) -> None:
    for given in (name, Path(name)):
        with pytest.raises(MediaError) as caught:
            check_input(given)
        assert caught.value.message == said and "name the file" in caught.value.fix


def test_nothing_is_written_to_addresses_and_standard_output() -> None:
    for check in (
        lambda name: check_output(name, overwrite=True),
        lambda name: check_outputs(name, [], overwrite=True),
    ):
        with pytest.raises(MediaError, match=r"s3://bucket/out\.mp4: nothing is written to addresses"):
            check("s3://bucket/out.mp4")
        with pytest.raises(MediaError, match="nothing is written to standard output"):
            check("-")


def test_existing_files_with_such_names_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("x")
    Path("http:/host").mkdir(parents=True)
    Path("http:/host/a.jpg").write_text("x")
    assert check_input("-") == Path("-")
    assert check_input("http://host/a.jpg") == Path("http:/host/a.jpg")


def test_drives_of_windows_and_colons_in_names_are_no_addresses() -> None:
    assert [as_address(name) for name in ("C:/me.jpg", "a:b.jpg", "12:30/x.jpg", "person.jpg")] == [None] * 4


def test_an_output_that_is_a_folder_gets_a_name_inside(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert output_file(tmp_path / "there", "a.mp4") == tmp_path / "there/a.mp4"
    assert output_file(f"{tmp_path}/new/", "a.mp4") == tmp_path / "new/a.mp4"
    assert output_file(f"{tmp_path}{os.sep}new{os.sep}", "a.mp4") == tmp_path / "new/a.mp4"
    assert output_file(f"{tmp_path}/new", "a.mp4") == tmp_path / "new"


def test_a_file_where_a_folder_is_to_be_filled_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="file: expected a folder, got a file"):
        check_outputs(tmp_path / "file", ["report.json"], overwrite=True)
