"""Engines: results, errors that end a run, and no worker that outlives its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from megaportraits.engines import MAX_ATTEMPTS, Attempts, Engine
from megaportraits.errors import ConfigError, DataError, MediaError

SLEEPER = """
import os, sys, time
from pathlib import Path
from megaportraits.engines import run_local

def work(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    list(run_local(work, [sys.argv[1]] * 2, 2))
"""


@dataclass(frozen=True)
class Sum:
    numbers: tuple[int, ...]


def add(item: Sum) -> tuple[int, frozenset[int]]:
    """Results keep their types on the way through processes."""
    if not item.numbers:
        raise MediaError("nothing to add", fix="Give numbers.")
    return sum(item.numbers), frozenset(item.numbers)


ITEMS = [Sum((1, 2)), Sum((3,)), Sum((4, 5, 6))]
WANTED = {(3, frozenset({1, 2})), (3, frozenset({3})), (15, frozenset({4, 5, 6}))}


@pytest.mark.parametrize("engine", [Engine(), Engine(workers=2), Engine("ray", 2)], ids=["here", "processes", "ray"])
def test_every_engine_gives_the_same_results_and_errors(engine: Engine) -> None:
    if engine.name == "ray":
        pytest.importorskip("ray")
    assert set(engine.run(add, ITEMS)) == WANTED
    with pytest.raises((MediaError, DataError), match="nothing to add") as caught:
        list(engine.run(add, [Sum(())]))
    assert caught.value.fix == "Give numbers."


def test_engines_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 process, got 0"):
        Engine(workers=0)
    with pytest.raises(ConfigError, match="--engine ray"):
        Engine(address="ray://host:10001")


def test_attempts_are_counted_until_the_work_ends(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / "attempts")
    assert [attempts.begin("a") for _ in range(MAX_ATTEMPTS + 1)] == list(range(MAX_ATTEMPTS + 1))
    assert attempts.begin("b") == 0
    attempts.end("a")
    assert attempts.begin("a") == 0
    attempts.sweep()
    assert attempts.begin("b") == 0


def is_alive(pid: str) -> bool:
    """Whether a process runs; one that has ended and waits for its parent to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script, folder = tmp_path / "sleeper.py", tmp_path / "pids"
    script.write_text(SLEEPER)
    folder.mkdir()
    process = subprocess.Popen([sys.executable, str(script), str(folder)], env={**os.environ})
    deadline = time.monotonic() + 500
    while len(list(folder.iterdir())) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    pids = [path.name for path in folder.iterdir()]
    process.kill()
    process.wait()
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
