"""Outputs and folder locks on a system that cannot rename or remove open files, such as Windows."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import megaportraits
from megaportraits.media import VideoReader, VideoWriter, folders, locks, staging, write_image
from megaportraits.media.folders import folder_lock

OPEN = Path("/proc/self/fd")
POSIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios"}


@pytest.fixture
def strict_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renaming and removing of files that this process has open fails."""
    if not OPEN.is_dir():
        pytest.skip("no list of open files")

    def refuse(path: Any) -> None:
        targets = {os.path.realpath(entry) for entry in OPEN.iterdir()}
        if os.path.realpath(path) in targets:
            raise PermissionError(f"{path} is open")

    def checked(name: str, owner: Any) -> None:
        original = getattr(owner, name)

        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            refuse(path)
            return original(path, *args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    for name in ("unlink", "replace"):
        checked(name, Path)
    checked("link", os)
    for module in (locks, staging, folders):
        monkeypatch.setattr(module, "RENAMES_OPEN_FILES", False)
    monkeypatch.setattr(staging, "_swept", set())


def test_outputs_are_written_replaced_and_cleaned_up(strict_system: None, tmp_path: Path) -> None:
    picture = np.full((64, 64, 3), 90, np.uint8)
    write_image(tmp_path / "a.png", picture)
    write_image(tmp_path / "a.png", picture, overwrite=True)
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(picture)
    with pytest.raises(RuntimeError, match="stop"), staging.staged_output(tmp_path / "b.txt", overwrite=False) as part:
        part.write_text("half")
        raise RuntimeError("stop")
    assert len(list(VideoReader(tmp_path / "a.mp4"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.png"]


def test_temporary_files_in_use_stay_and_others_go(strict_system: None, tmp_path: Path) -> None:
    living = staging.StagedFile(tmp_path / "a.mp4", overwrite=False)
    dead = tmp_path / living.part.name.replace(".a.", ".b.")
    dead.touch()
    staging._swept.clear()
    staging.sweep(tmp_path)
    assert living.part.exists() and not dead.exists()
    living.close()
    assert not list(tmp_path.iterdir())


def test_a_folder_lock_is_taken_refused_and_given_back(strict_system: None, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with folder_lock(folder) as free:
        assert free
        with (folder / folders.LOCK).open("w") as other:
            assert not locks.try_lock(other.fileno())
    assert not folder.exists()


def test_modules_that_only_posix_has_are_imported_behind_a_check() -> None:
    found = set()
    for path in Path(megaportraits.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            found |= {(path.name, name) for name in names if name in POSIX_ONLY}
    assert not found
