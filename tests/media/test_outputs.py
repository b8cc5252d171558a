"""Outputs: no file is replaced without `overwrite`, no temporary file is left, and one process holds a lock."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import DataError, MediaError, OutputTakenError
from megaportraits.media import VideoReader, VideoWriter, staging, write_image
from megaportraits.media.files import plan_file, write_all
from megaportraits.media.folders import LOCK, folder_lock, write_json
from megaportraits.media.staging import StagedFile, full_disk_errors, staged_output

FRAME = np.full((64, 96, 3), 90, np.uint8)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing more than `size` bytes to a file fails, as on a full disk."""
    resource = pytest.importorskip("resource", reason="no limit on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with hard links, and one without."""
    if request.param == "no links":

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(staging.os, "link", refuse)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("links")
def test_a_file_that_appears_meanwhile_stays_and_the_result_has_another_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for number, kept in ((2, tmp_path / "a-2.txt"), (3, tmp_path / "a-3.txt")):
        told = pytest.raises(OutputTakenError, match=f"a-{number}.txt")
        with told as caught, staged_output(path, overwrite=False) as part:
            part.write_text(f"mine {number}")
            path.write_text("another's")
        assert caught.value.taken == ((path, kept),)
        assert path.read_text() == "another's" and kept.read_text() == f"mine {number}"
        path.unlink()
    assert names(tmp_path) == ["a-2.txt", "a-3.txt"]


@pytest.mark.usefixtures("links")
def test_a_name_that_stays_free_is_taken_with_ordinary_permissions(tmp_path: Path) -> None:
    with staged_output(tmp_path / "new/a.txt", overwrite=False) as part:
        part.write_text("mine")
    (tmp_path / "plain").touch()
    assert (tmp_path / "new/a.txt").read_text() == "mine" and names(tmp_path / "new") == ["a.txt"]
    assert (tmp_path / "new/a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_may_be_replaced_is_replaced_also_when_it_appears_meanwhile(tmp_path: Path) -> None:
    with staged_output(tmp_path / "a.txt", overwrite=True) as part:
        (tmp_path / "a.txt").write_text("another's")
        part.write_text("mine")
    assert (tmp_path / "a.txt").read_text() == "mine" and names(tmp_path) == ["a.txt"]


def test_two_writers_of_one_video_both_leave_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(OutputTakenError), VideoWriter(path) as later:
        later.write(FRAME)
        later.write(FRAME)
        with VideoWriter(path) as earlier:
            earlier.write(FRAME)
    assert [len(list(VideoReader(tmp_path / name))) for name in ("a.mp4", "a-2.mp4")] == [1, 2]
    assert names(tmp_path) == ["a-2.mp4", "a.mp4"]


def test_videos_side_by_side_are_kept_whichever_names_are_taken(tmp_path: Path) -> None:
    paths = tmp_path / "a.mp4", tmp_path / "b.mp4"
    with pytest.raises(OutputTakenError) as caught, VideoWriter(paths[0]) as one, VideoWriter(paths[1]) as other:
        for writer in (one, other):
            writer.write(FRAME)
        for path in paths:
            path.touch()
    assert dict(caught.value.taken) == {path: path.with_stem(f"{path.stem}-2") for path in paths}
    assert all(len(list(VideoReader(kept))) == 1 for _, kept in caught.value.taken)
    (tmp_path / "a.mp4").unlink()
    (tmp_path / "a-2.mp4").unlink()
    with pytest.raises(OutputTakenError, match="b-3"), VideoWriter(paths[0]) as one, VideoWriter(tmp_path / "c.mp4"):
        one.write(FRAME)
        raise OutputTakenError((paths[1], tmp_path / "b-3.mp4"))
    assert len(list(VideoReader(paths[0]))) == 1


def test_names_of_every_length_can_be_written(tmp_path: Path) -> None:
    for stem in ("ä" * 125, "x" * 251):
        path = tmp_path / f"{stem}.png"
        write_image(path, FRAME)
        taken = tmp_path / f"{stem[:-1]}.png"
        with pytest.raises(OutputTakenError) as caught, staged_output(taken, overwrite=False) as part:
            part.write_bytes(path.read_bytes())
            taken.touch()
        assert caught.value.taken[0][1].read_bytes() == path.read_bytes()


@pytest.mark.posix
def test_temporary_files_of_dead_runs_are_swept_and_those_of_living_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from megaportraits.media.staging import StagedFile\n"
        "StagedFile(Path(sys.argv[1]), overwrite=False).part.write_text('half')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.mp4")], check=False)
    assert len(names(tmp_path)) == 1 and names(tmp_path)[0].endswith(".part.mp4")
    dead = tmp_path / names(tmp_path)[0]
    elsewhere = tmp_path / dead.name.replace(staging._HOST, "0123abcd")
    elsewhere.touch()
    own = tmp_path / ".notes.part.txt"
    own.touch()
    living = StagedFile(tmp_path / "b.mp4", overwrite=False)
    assert not dead.exists()
    monkeypatch.setattr(staging, "_swept", set())  # as another process
    write_image(tmp_path / "c.png", FRAME)
    assert {living.part.name, elsewhere.name, own.name, "c.png"} == set(names(tmp_path))
    os.utime(elsewhere, (0, 0))
    monkeypatch.setattr(staging, "_swept", set())
    staging.sweep(tmp_path)
    assert not elsewhere.exists() and living.part.exists()
    living.close()
    living.close()


@pytest.mark.parametrize(("suffix", "alpha"), [(".webm", False), (".webm", True), (".mkv", False), (".mov", True)])
def test_a_disk_that_fills_at_any_moment_is_reported_and_leaves_nothing(
    tmp_path: Path, suffix: str, alpha: bool
) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (8, 64, 64, 4 if alpha else 3), dtype=np.uint8)
    with VideoWriter(tmp_path / f"whole{suffix}", alpha=alpha) as writer:
        for picture in pictures:
            writer.write(picture)
    size = (tmp_path / f"whole{suffix}").stat().st_size
    for most in (0, 100, size // 2, size - 1):
        told = pytest.raises(MediaError, match="cannot be written: File too large")
        with told, files_of_at_most(most), VideoWriter(tmp_path / f"a{suffix}", alpha=alpha) as writer:
            for picture in pictures:
                writer.write(picture)
        assert names(tmp_path) == [f"whole{suffix}"]


def test_errors_are_the_same_in_another_process() -> None:
    for error in (
        OutputTakenError((Path("a.mp4"), Path("a-2.mp4"))),
        DataError("what happened", fix="What to do."),
    ):
        sent = pickle.loads(pickle.dumps(error))
        assert type(sent) is type(error) and str(sent) == str(error)
        assert (sent.message, sent.fix, vars(sent)) == (error.message, error.fix, vars(error))


@pytest.mark.posix
def test_a_folder_is_locked_by_one_process_until_it_ends(tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from megaportraits.media.folders import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])) as free:\n"
        "    if os.fork():\n"
        "        print(free, flush=True)\n"
        "    sys.stdin.read()\n"  # the fork lives on when its parent is killed
    )
    line = [sys.executable, "-c", program, str(out)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        with folder_lock(out) as free:
            assert not free
        (out / "result").touch()
        other.kill()
        other.wait()
        with folder_lock(out) as free, folder_lock(out) as again:
            assert free and again
    assert names(out) == [LOCK, "result"]


def test_a_folder_made_for_nothing_goes_and_one_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "made"):
        with pytest.raises(ValueError), folder_lock(tmp_path / name):
            raise ValueError
    assert names(tmp_path) == ["there"] and names(tmp_path / "there") == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"), folder_lock(tmp_path / "file"):
        pass


def test_a_full_disk_under_a_folder_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="cannot be written"),
        full_disk_errors(tmp_path, DataError),
        files_of_at_most(100),
    ):
        write_json(tmp_path / "a.json", ["x" * 1000])
    assert names(tmp_path) == []


def test_a_planned_output_has_a_fitting_ending_a_free_name_and_is_no_input(tmp_path: Path) -> None:
    def plan(output: object, *, overwrite: bool = False) -> Path:
        return plan_file(
            str(output), "volume.mp4", overwrite=overwrite, inputs=[tmp_path / "in.mp4"], suffixes=(".mp4", ".mkv")
        )

    for name in ("in.mp4", "old.mp4"):
        (tmp_path / name).touch()
    assert plan(tmp_path) == plan(f"{tmp_path}/") == tmp_path / "volume.mp4"
    assert plan(tmp_path / "my.MKV") == tmp_path / "my.MKV"
    assert plan(tmp_path / "old.mp4", overwrite=True) == tmp_path / "old.mp4"
    for output, overwrite, words in (
        (tmp_path / "my.txt", False, "expected a .mp4 or .mkv file, got '.txt'"),
        (tmp_path / "old.mp4", False, "exists already"),
        (tmp_path / "in.mp4", True, "would replace its own input"),
    ):
        with pytest.raises(MediaError, match=words):
            plan(output, overwrite=overwrite)


def test_all_outputs_are_written_before_taken_names_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    (tmp_path / "b.txt").write_text("mine")

    def write(name: str) -> None:
        with staged_output(tmp_path / name, overwrite=False, late=True) as part:
            part.write_text("new")

    with pytest.raises(OutputTakenError) as caught:
        write_all(partial(write, name) for name in ("a.txt", "b.txt", "c.txt"))
    assert caught.value.taken == tuple((tmp_path / f"{n}.txt", tmp_path / f"{n}-2.txt") for n in "ab")
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["new", "mine", "new", "mine", "new"]
