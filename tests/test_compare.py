"""`tools/compare.sh`: the budget of docs/comparison.md."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.posix
def test_all_runs_get_the_same_budget_and_continue_when_asked_again(tmp_path: Path) -> None:
    """A stand-in for the program writes down its arguments, and makes the run folder."""
    program = tmp_path / "bin/megaportraits"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        'while [ "$1" != --out ]; do shift; done\nmkdir -p "$2" && touch "$2/config.yaml"\n'
    )
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    for _ in range(2):
        subprocess.run(
            [ROOT / "tools/compare.sh", "DATA", tmp_path / "out", "50"], check=True, env={**os.environ, "PATH": path}
        )
    calls = (tmp_path / "calls").read_text().splitlines()
    runs = [call.split() for call in calls[:4]]
    assert [(run[1], run[3]) for run in runs] == [
        ("baseline", "fomm-nano"),
        ("baseline", "face-vid2vid-nano"),
        ("base", "nano-paper"),
        ("base", "nano"),
    ]
    budgets = {tuple(run[run.index("--set") :]) for run in runs}
    assert budgets == {("--set", "optim.steps=50", "--set", "optim.batch_size=12", "--set", "run.seed=0")}
    assert all(call.endswith("--resume") and "--config" not in call for call in calls[4:]) and len(calls) == 8
