"""Finding jobs in folders, globs and lists; invalid lines are refused with their number."""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from megaportraits.batch import Job, find_jobs, read_list
from megaportraits.errors import ConfigError, DataError, MediaError
from megaportraits.media import write_image
from megaportraits.pipeline import AnimateOptions, Background, MotionMode


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Files that nobody opens: three people, one of them in a sub-folder, and two drivers."""
    for name in ("people/alice.jpg", "people/team/bob.png", "people/team/.hidden.png", "people/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for name in ("smile.mp4", "nod.mp4"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def outputs(jobs: list[Job]) -> list[str]:
    return [job.output.as_posix() for job in jobs]


def test_every_source_goes_with_every_driver(media: Path) -> None:
    jobs = find_jobs([media / "people"], [media / "smile.mp4", media / "nod.mp4"], out=media / "out")
    assert outputs(jobs) == ["alice_smile.mp4", "alice_nod.mp4", "team/bob_smile.mp4", "team/bob_nod.mp4"]
    assert jobs[3].source == media / "people/team/bob.png" and jobs[3].drivers == (media / "nod.mp4",)


def test_results_of_an_earlier_run_are_no_sources(media: Path) -> None:
    out = media / "people" / "out"
    out.mkdir()
    (out / "alice_smile.mp4").write_bytes(b"x")
    assert len(find_jobs([media / "people"], [media / "smile.mp4"], out=out)) == 2
    with pytest.raises(ConfigError, match="among the files that they are made from"):
        find_jobs([media / "people"], [media / "smile.mp4"], out=media / "people")


def test_globs_are_expanded_here_so_that_they_work_in_quotes(media: Path) -> None:
    jobs = find_jobs([str(media / "people" / "**" / "*.png")], [media / "smile.mp4"], out=media / "out")
    assert outputs(jobs) == ["bob_smile.mp4"]
    with pytest.raises(MediaError, match="found none"):
        find_jobs([media / "people" / "*.tif"], [media / "smile.mp4"], out=media / "out")


def test_a_driver_that_was_replaced_is_looked_at_again(media: Path) -> None:
    person, driver = media / "people/alice.jpg", media / "driver.png"
    write_image(driver, np.zeros((8, 8, 3), np.uint8))
    assert outputs(find_jobs([person], [driver], out=media / "out")) == ["alice_driver.png"]
    Image.new("RGB", (8, 8)).save(driver, save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    assert outputs(find_jobs([person], [driver], out=media / "out")) == ["alice_driver.mp4"]


def test_an_unquoted_glob_of_sources_is_noticed(media: Path) -> None:
    picture = write_image(media / "b.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ConfigError, match="pictures and videos") as caught:
        find_jobs([media / "people/alice.jpg"], [picture, media / "smile.mp4"], out=media / "out")
    assert "Quote" in caught.value.fix


def test_files_of_one_name_get_different_results_or_are_refused(media: Path) -> None:
    (media / "people" / "alice.png").write_bytes(b"x")
    jobs = find_jobs([media / "people"], [media / "smile.mp4"], out=media / "out")
    assert outputs(jobs) == ["alice-jpg_smile.mp4", "alice-png_smile.mp4", "team/bob_smile.mp4"]
    (media / "alice.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="2 results have this name"):
        find_jobs([media / "alice.jpg", media / "people/alice.jpg"], [media / "smile.mp4"], out=media / "out")


def test_drivers_of_a_group_belong_to_one_job(media: Path) -> None:
    options = AnimateOptions(face="all")
    both = [media / "smile.mp4", media / "nod.mp4"]
    jobs = find_jobs([media / "people/alice.jpg"], both, options, out=media / "out")
    assert outputs(jobs) == ["alice_smile+nod.mp4"] and jobs[0].drivers == tuple(both)


def test_results_take_the_suffix_that_fits(media: Path) -> None:
    still = write_image(media / "still.png", np.zeros((8, 8, 3), np.uint8))
    clear = AnimateOptions(background=Background.TRANSPARENT)
    assert outputs(find_jobs([media / "people/alice.jpg"], [still], out=media)) == ["alice_still.png"]
    assert outputs(find_jobs([media / "people/alice.jpg"], [media / "nod.mp4"], clear, out=media)) == ["alice_nod.webm"]
    signed = find_jobs([media / "people/alice.jpg"], [media / "nod.mp4"], clear, out=media, signed=True)
    assert outputs(signed) == ["alice_nod.mov"]


def write_list(folder: Path, *lines: str) -> Path:
    path = folder / "jobs.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_list_says_files_names_and_options(media: Path) -> None:
    path = write_list(
        media,
        "Source,driver,output,side-by-side,options,yaw,face",
        "people/alice.jpg,smile.mp4,first.mp4,rows/first.mp4,--motion relative --frontal,20,",
        "",
        "people/team/bob.png,,,,,,2",
        "people/alice.jpg,smile.mp4; nod.mp4,two.mp4,,,,all",
    )
    first, second, third = read_list(path, [Path("given.mp4")], AnimateOptions(max_side=640))
    assert first.source == media / "people/alice.jpg" and first.drivers == (media / "smile.mp4",)
    assert (first.output, first.side_by_side) == (PurePath("first.mp4"), PurePath("rows/first.mp4"))
    assert first.options == AnimateOptions(motion=MotionMode.RELATIVE, frontal=True, yaw=20.0, max_side=640)
    assert second.drivers == (Path("given.mp4"),) and second.output == PurePath("bob_given.mp4")
    assert second.options == AnimateOptions(face=2, max_side=640)
    assert third.drivers == (media / "smile.mp4", media / "nod.mp4") and third.options.face == "all"


def test_names_in_any_language_are_read_with_and_without_a_mark(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "jobs.csv").write_text("source,driver\nJürgen 山田.jpg,nod.mp4\n", encoding=encoding)
        assert outputs(read_list(tmp_path / "jobs.csv")) == ["Jürgen 山田_nod.mp4"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.jpg,b.mp4,out.mp4,,sideways", "line 2.*motion.*sideways"),
        ("a.jpg,b.mp4,out.mp4,--mouton relative,", "line 2.*'mouton'"),
        ("a.jpg,b.mp4,out.mp4,relative,", "line 2.*--name value"),
        ('a.jpg,b.mp4,out.mp4,"--motion \'relative",', "line 2.*cannot be read"),
        ("a.jpg,b.mp4,../out.mp4,,", "line 2.*inside the output folder"),
        ("a.jpg,b.mp4,/tmp/out.mp4,,", "line 2.*inside the output folder"),
        ("a.jpg,b.mp4,.megaportraits/lock,,", "line 2.*inside the output folder"),
        ("a.jpg,,out.mp4,,", "line 2.*Expected a driver"),
        (",b.mp4,out.mp4,,", "line 2.*Expected a source"),
        ("a.jpg,b.mp4;c.mp4,out.mp4,,", "line 2.*one driver for one face, got 2"),
        ("a.jpg,b.mp4,out.mp4,,,,", "line 2.*expected 5 cells"),
        ("a.jpg,b.mp4,o.mp4,,\nc.jpg,b.mp4,o.mp4,,", "2 results have this name"),
        ("", "expected a line for each job"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises((ConfigError, DataError), match=words):
        read_list(write_list(tmp_path, "source,driver,output,options,motion", line))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"driver,output\nb.mp4,c.mp4\n",
        b"source,source\na.jpg,b.jpg\n",
        "source,driver\na.jpg,b.mp4\n".encode("utf-16"),
        bytes(range(256)),
        b"source,driver\n" + b"x" * 200_000 + b",b.mp4\n",
    ],
)
def test_what_is_no_list_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jobs.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"jobs\.csv"):
        read_list(path)
    with pytest.raises(DataError, match=r"jobs\.csv"):
        read_list(tmp_path / "missing" / "jobs.csv")


def test_a_list_that_is_missing_or_a_folder_is_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file") as caught:
        read_list(tmp_path / "jobs.csv")
    assert "Check the path" in caught.value.fix
    with pytest.raises(DataError, match="expected a file, got a folder"):
        read_list(tmp_path)


def test_a_list_with_semicolons_is_refused_with_the_advice_to_use_commas(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("source;driver\na.jpg;b.mp4\n")
    with pytest.raises(DataError, match="source;driver") as caught:
        read_list(path)
    assert "commas, not semicolons" in str(caught.value.fix)
