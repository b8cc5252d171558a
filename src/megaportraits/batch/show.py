"""Terminal output of a run: a line for every job, and a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from megaportraits.batch.run import OnOutcome
from megaportraits.batch.work import Outcome


@contextmanager
def job_progress(total: int) -> Iterator[OnOutcome]:
    """A Rich bar and lines as `run_jobs`' `on_outcome`.

    Args:
        total: jobs of the run.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("Animating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def on_outcome(done: int, total: int, outcome: Outcome) -> None:
            console.print(job_line(done, total, outcome), markup=False, highlight=False, soft_wrap=True)
            bar.update(task, completed=done)

        yield on_outcome


def job_line(done: int, total: int, outcome: Outcome) -> str:
    """One line about a job that has ended."""
    line = f"[{done}/{total}] {outcome.state}: {outcome.job.output}"
    if outcome.state == "done":
        line += f" ({outcome.frames} frame{'s' * (outcome.frames != 1)}, {outcome.seconds:.1f} s)"
    said = [*outcome.remarks, *outcome.error.splitlines()[:1]]
    return f"{line}  {' '.join(said)}" if said else line
