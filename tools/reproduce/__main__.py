"""Run `docs/reproduce.md` in miniature: from generated corpora to Tables 1 and 2, with the page's own commands.

    make reproduce-tiny                                   # sets the project up first
    python -m tools.reproduce --out out/reproduce-tiny  # run it again to resume
    python -m tools.reproduce --list                    # only print the commands

This program reads the page, reduces its numbers (`page.py`), and runs its commands one after the other. All files are
under --out; each command's output is in `logs/`. The networks are too small and trained too briefly to be useful. The
run shows only that the commands exist and work together.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.reproduce.page import CONFIGS, ROOT, Command, read_commands, resumed, shrink

_TAIL = 25
"""Number of lines of a failed command's output that are shown."""


@dataclass(frozen=True)
class Step:
    """One step of the run.

    Attributes:
        stage: heading of the stage, for display.
        command: the command to run.
        stands_for: what a person who follows the page does at this point; "" for a command from the page.
    """

    stage: str
    command: Command
    stands_for: str = ""


def plan() -> list[Step]:
    """All steps from an empty folder to both tables, in order."""
    corpora = Command("Corpora", ("python", "-m", "tools.reproduce.corpora", "corpora"))
    first = Step(corpora.stage, corpora, "VoxCeleb2, FFHQ, the avatars, RT-GENE and RT-BENE")
    return [first, *(Step(command.stage, shrink(command)) for command in read_commands())]


class Runner:
    """Runs steps in a folder, once each.

    Args:
        folder: folder of all files. In it, `plan.txt` lists the commands and configs, `done/` has a file for each
            finished step, and `logs/` has the commands' output.
        echo: prints a line for the user.
    """

    def __init__(self, folder: Path, echo: Callable[[str], object] = print) -> None:
        self.folder, self.echo = folder, echo
        for name in ("done", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def run(self, steps: Sequence[Step]) -> bool:
        """Run the steps that are not done yet. Returns False if a command failed; its last output lines are shown.

        A folder with results of other commands or configs is refused, so that results do not mix.
        """
        began, before = time.monotonic(), ""
        plan_file, text = self.folder / "plan.txt", "".join(f"{_fingerprint(step)}\n" for step in steps)
        if plan_file.is_file() and plan_file.read_text(encoding="utf-8") != text:
            self.echo(f"{self.folder} was filled by other commands or configs: remove it, or choose another --out.")
            return False
        plan_file.write_text(text, encoding="utf-8")
        for number, step in enumerate(steps, 1):
            if step.stage != before:
                self.echo(f"\n== {step.stage}")
                before = step.stage
            mark, log = self._files(number, step)
            if mark.is_file():
                self.echo(f"[{number}/{len(steps)}] done before: {step.command.text}")
                continue
            self.echo(f"[{number}/{len(steps)}] {step.command.text}")
            if step.stands_for:
                self.echo(f"    stands for: {step.stands_for}")
            start, used = time.monotonic(), _cpu_seconds()
            if (code := self._perform(step, log)) != 0:
                self.echo("".join(f"    {line}\n" for line in log.read_text(errors="replace").splitlines()[-_TAIL:]))
                self.echo(f"FAILED with exit code {code}, in {self.folder}:\n    {step.command.text}\n    log: {log}")
                return False
            mark.touch()
            self.echo(f"    {time.monotonic() - start:.1f} s, {_cpu_seconds() - used:.1f} s of CPU")
        spent = f"{time.monotonic() - began:.0f} s, {_cpu_seconds():.0f} s of CPU"
        self.echo(f"\nAll {len(steps)} commands done, {spent}.")
        return True

    def _files(self, number: int, step: Step) -> tuple[Path, Path]:
        """The file that marks a step as finished, and the step's log."""
        stem = f"{number:02d}-{step.command.name.replace(' ', '-')}"
        return self.folder / "done" / stem, self.folder / "logs" / f"{stem}.log"

    def _perform(self, step: Step, log: Path) -> int:
        """Run a step and return its exit code."""
        words = resumed(step.command, self.folder).words
        with log.open("w", encoding="utf-8") as file:
            if step.command.name == "study serve":
                from tools.reproduce.voters import serve_and_vote

                try:
                    serve_and_vote(_program(words), self.folder, lambda text: file.write(f"{text}\n"))
                except (OSError, RuntimeError) as error:
                    file.write(f"{error}\n")
                    return 1
                return 0
            done = subprocess.run(
                _program(words), cwd=self.folder, env=_environment(), stdout=file, stderr=subprocess.STDOUT, check=False
            )
        return done.returncode


def _cpu_seconds() -> float:
    """CPU seconds of all commands that have ended so far, summed over their processes."""
    times = os.times()
    return times.children_user + times.children_system


def _fingerprint(step: Step) -> str:
    """A step's command line and a digest of the configs that it names."""
    configs = [Path(word).read_bytes() for word in step.command.words if word.endswith(".yaml")]
    return f"{step.command.text} {hashlib.sha256(b''.join(configs)).hexdigest()[:12]}"


def _program(words: Sequence[str]) -> list[str]:
    """A command's words with programs from this Python's environment in place of those on PATH."""
    first = {
        "megaportraits": [sys.executable, "-m", "megaportraits"],
        "torchrun": [sys.executable, "-m", "torch.distributed.run"],
        "python": [sys.executable],
    }
    return [*first[words[0]], *words[1:]]


def _environment() -> dict[str, str]:
    """The commands' environment: modules of this checkout, and one thread each, as two processes share two cores."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONPATH": path}


def tables(folder: Path) -> str:
    """Tables 1 and 2 from the reports that the commands wrote."""
    found = []
    for report in sorted(folder.glob("out/table*/report.md")):
        lines = report.read_text(encoding="utf-8").splitlines()
        for start, line in enumerate(lines):
            if line.startswith("### Table "):
                end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("#")), len(lines))
                found += [f"{report.parent.name}: {line.removeprefix('### ')}", *lines[start + 1 : end]]
    study = folder / "out" / "study-report" / "study-report.md"
    return "\n".join([*found, study.read_text(encoding="utf-8") if study.is_file() else ""])


def main() -> int:
    """Run all steps. Returns 0 if all succeeded."""
    options = argparse.ArgumentParser(prog="python -m tools.reproduce", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--out", type=Path, default=Path("out/reproduce-tiny"), help="folder of all files")
    options.add_argument("--list", action="store_true", help="print the commands without running them")
    chosen = options.parse_args()
    steps = plan()
    if chosen.list:
        for step in steps:
            print(step.command.text)
        return 0
    folder = chosen.out.resolve()
    print(f"{len(steps)} commands in {folder}; configs: {CONFIGS}")
    try:
        if not Runner(folder, lambda text: print(text, flush=True)).run(steps):
            return 1
    except KeyboardInterrupt:
        print("Stopped; given again, the same line continues.")
        return 130
    text = tables(folder)
    (folder / "tables.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\n{folder / 'tables.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
