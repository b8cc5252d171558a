"""`megaportraits animate` for many at once, through the real command line and a real network."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.config import ModelConfig
from megaportraits.media import read_image, write_image
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import save_base
from tests.conftest import TINY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, one of them of two people, a file that is none, a driver, and weights."""
    here = tmp_path_factory.mktemp("many")
    head = skimage.data.astronaut()[:256, 110:340]
    write_image(here / "people" / "one.png", np.ascontiguousarray(head))
    write_image(here / "people" / "two.png", np.concatenate([head, head[:, ::-1]], axis=1))
    (here / "people" / "none.jpg").write_text("no picture")
    write_image(here / "driver.png", np.ascontiguousarray(head))
    save_base(here / "tiny.safetensors", BaseModel(ModelConfig.model_validate(TINY)))
    return here


def animate(folder: Path, *arguments: object) -> tuple[int, str]:
    """The command line in this process: exit code, and what it says."""
    weights = ["--weights", str(folder / "tiny.safetensors"), "--size", "64"]
    result = CliRunner().invoke(app, ["animate", *map(str, arguments), *weights])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 1, f"{result.output}{result.exception}"
    return result.exit_code, result.output


def test_a_folder_is_animated_with_a_line_for_each_and_failures_at_the_end(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = (folder / "people", folder / "driver.png", "--out", out, "--face", "all")
    code, said = animate(folder, *line)
    assert code == 1, said
    lines = said.splitlines()
    assert [each.split(" (")[0] for each in lines if "done" in each] == [
        "[2/3] done: one_driver.png",
        "[3/3] done: two_driver.png",
    ]
    assert "[1/3] failed: none_driver.png" in said
    assert lines[-3] == "2 made, 0 finished before, 1 failed"
    assert lines[-2].startswith("none_driver.png: ") and "none.jpg" in lines[-2]
    assert read_image(out / "two_driver.png").shape == (256, 460, 3)
    (folder / "people" / "none.jpg").unlink()
    code, said = animate(folder, *line)
    assert code == 0 and "0 made, 2 finished before, 0 failed" in said, said


def test_processes_make_what_a_list_says(folder: Path, tmp_path: Path) -> None:
    jobs = folder / "jobs.csv"
    jobs.write_text("source,driver,output,yaw\npeople/one.png,driver.png,a.png,\npeople/one.png,driver.png,b.png,30\n")
    code, said = animate(folder, jobs, "--out", tmp_path, "--jobs", "2")
    assert code == 0 and "2 made" in said, said
    assert (read_image(tmp_path / "a.png") != read_image(tmp_path / "b.png")).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("people", "driver.png"), "Add --out DIR"),
        (("people", "driver.png", "--out", "o", "-o", "a.png"), "--output: expected for one result"),
        (("people", "driver.png", "--out", "o", "--side-by-side", "a.png"), "--side-by-side: expected for one"),
        (("one.png", "driver.png", "--jobs", "2"), "--jobs: expected with --out"),
        (("one.png", "driver.png", "--source", "two.png"), "--source: expected with --out"),
        (("one.png", "driver.png", "--engine", "ray"), "--engine: expected with --out"),
        (("people", "driver.png", "--out", "o", "--address", "ray://a"), "--address: expected with --engine ray"),
        (("people", "--out", "o"), "Expected a source and a driver"),
        (("one.png",), "expected a driver, got none"),
        (("one.png", "driver.png", "driver.png"), "one driver for one face, got 2"),
        (("one.png", "driver.png", "--face", "both"), "face: .*'both'"),
        (("one.png", "driver.png", "--face", "all", "--crop"), "all faces go back"),
    ],
)
def test_lines_that_mean_nothing_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one.png", "driver.png", "people/one.png"):
        write_image(Path(name), np.zeros((8, 8, 3), np.uint8))
    code, said = animate(folder, *arguments)
    assert code == 1
    assert re.search(words, said), said
    assert not Path("o").exists()
