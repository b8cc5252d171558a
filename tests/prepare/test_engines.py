"""Engines: results are kept when workers die, and both engines give the same results."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from megaportraits.engines import run_local, run_ray
from megaportraits.prepare.extract import Extractor
from megaportraits.prepare.sources import SourceItem, find_items
from megaportraits.prepare.store import Store
from tests.prepare.conftest import SMALL


def contents(out: Path) -> dict[str, bytes]:
    """All results by name, without what a killed worker left unfinished."""
    found = [path for path in sorted(out.rglob("*.*")) if path.is_file() and path.suffix != ".partial"]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[SourceItem], dict[str, bytes]]:
    """The items, and their results from a run in this process."""
    out, items = tmp_path_factory.mktemp("undisturbed"), find_items([str(videos)])
    results = list(run_local(Extractor(out, SMALL), items, 1))
    assert sum(result["clips"] for result in results) == 6
    return items, contents(out)


@pytest.mark.posix
def test_a_killed_worker_is_replaced_and_its_video_done_by_another(
    undisturbed: tuple[list[SourceItem], dict[str, bytes]], tmp_path: Path
) -> None:
    items, wanted = undisturbed
    done = []
    for result in run_local(Extractor(tmp_path, SMALL), items, 2):
        done.append(result["key"])
        if len(done) == 1:
            victim = multiprocessing.active_children()[0].pid
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
    assert sorted(done) == [item.key for item in items]
    assert contents(tmp_path) == wanted


def ray_workers() -> list[int]:
    """Processes of actors that Ray started for this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::") and b"MapWorker" in command and os.getpid() in ancestors(int(entry.name)):
            found.append(int(entry.name))
    return found


def ancestors(pid: int) -> set[int]:
    """A process's parents up to the first."""
    found: set[int] = set()
    while pid > 1 and pid not in found:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


@pytest.mark.posix
def test_a_killed_ray_worker_changes_no_byte(
    undisturbed: tuple[list[SourceItem], dict[str, bytes]], tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    items, wanted = undisturbed
    done, killed = set(), 0
    for result in run_ray(Extractor(tmp_path, SMALL), items, 2):
        done.add(result["key"])
        if not killed:
            for pid in ray_workers()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed += 1
    assert killed == 1
    assert done == {item.key for item in items}
    assert contents(tmp_path) == wanted


def test_a_video_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    item = SourceItem(str(tmp_path / "poison.mp4"))
    store = Store(tmp_path)
    assert [store.attempts.begin(item.key) for _ in range(2)] == [0, 1]
    result = Extractor(tmp_path, SMALL)(item)
    assert result == {"key": item.key, "clips": 0, "frames": 0, "error": "its worker died 2 times"}
    assert store.has(item.key) and not (store.root / "attempts" / item.key).exists()
