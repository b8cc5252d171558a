"""Limits on the uploads of visitors, and which files are deleted."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the study extra is not installed")

from megaportraits.web.guard import Refused
from megaportraits.web.uploads import UploadFolder, UploadLimits

LIMITS: dict[str, Any] = {"kept_bytes": 100_000, "safe_seconds": 100.0}


def upload(folder: Path, name: str, size: int, age: float) -> Path:
    """A file in a folder of its own, that many seconds old."""
    path = folder / name / "file.mp4"
    path.parent.mkdir()
    path.write_bytes(bytes(size))
    for one in (path, path.parent):
        before = one.stat().st_mtime - age
        os.utime(one, (before, before))
    return path


def test_so_many_uploads_run_at_once_and_a_free_place_is_given_again(tmp_path: Path) -> None:
    uploads = UploadFolder(tmp_path, UploadLimits(at_once=2), set)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(uploads.place(10))
        with pytest.raises(Refused, match="fewer than 2 uploads at once"), uploads.place(10):
            pass
    with uploads.place(10), uploads.place(10):
        pass


def test_the_oldest_go_where_space_is_short_but_not_what_is_new_in_use_or_the_pages_own(tmp_path: Path) -> None:
    own = upload(tmp_path, "own", 20_000, 9000)
    uploads = UploadFolder(tmp_path, UploadLimits(**LIMITS), lambda: {used})
    used = upload(tmp_path, "used", 20_000, 8000)
    oldest, older = upload(tmp_path, "oldest", 20_000, 7000), upload(tmp_path, "older", 10_000, 6000)
    new = upload(tmp_path, "new", 10_000, 5)
    with uploads.place(1000):
        pass
    assert oldest.exists()  # there was space
    with uploads.place(30_000):
        pass
    assert not oldest.parent.exists() and older.exists()
    with pytest.raises(Refused, match="no space"), uploads.place(60_000):
        pass
    assert [path.exists() for path in (own, used, older, new)] == [True, True, False, True]


def test_uploads_that_run_count_before_their_bytes_are_there(tmp_path: Path) -> None:
    uploads = UploadFolder(tmp_path, UploadLimits(**LIMITS), set)
    with uploads.place(80_000), pytest.raises(Refused, match="no space"), uploads.place(80_000):
        pass
    with uploads.place(80_000):
        pass


def test_the_number_of_uploads_is_limited_too(tmp_path: Path) -> None:
    uploads = UploadFolder(tmp_path, UploadLimits(kept=3), set)
    for number in range(3):
        upload(tmp_path, str(number), 1, 5)
    with pytest.raises(Refused, match="no space"), uploads.place(1):
        pass


def test_what_an_upload_that_broke_off_left_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("the page's")
    uploads = UploadFolder(tmp_path, UploadLimits(), set)
    with uploads.place(10):
        (tmp_path / "tmpabcd").write_bytes(b"half a fi")
        with uploads.place(10):
            pass
        assert (tmp_path / "tmpabcd").exists()  # another one runs: whose it is nobody knows
    assert [path.name for path in tmp_path.iterdir()] == ["own.txt"]
