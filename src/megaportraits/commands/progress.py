"""Progress bars of the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from megaportraits.batch.run import OnOutcome
    from megaportraits.batch.work import Outcome
    from megaportraits.pipeline.driver_clips import OnProgress
    from megaportraits.prepare.run import PrepareProgress
    from megaportraits.synth.generate import SynthProgress


@contextmanager
def frame_progress(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar that counts frames; yields the function to call with frames done and frames expected."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[fps]}"))
    with Progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task(label, total=None, fps="")

        def advance(done: int, total: int | None) -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=done, total=total, fps=f"{speed:.1f} frames/s" if speed else "")

        yield advance


@contextmanager
def step_progress(*, shown: bool) -> Iterator[OnProgress]:
    """A bar that shows one step at a time; yields the function to call with the step, items done and all items.

    Args:
        shown: whether to show the bar; only one of several processes should.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=None)
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total)


class StageBar:
    """A bar with one line for each stage of a long job: items done, a note, time elapsed and time left."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def update(self, stage: str, done: int, total: int, note: Callable[[float], str]) -> None:
        """Update the line of a stage.

        Args:
            stage: name of the stage; its first update adds the line, so that work of an earlier run does not count
                for the speed.
            done: items done.
            total: all items.
            note: called with the seconds since the first update, once these exceed 1; gives the note.
        """
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, completed=done, total=None, note="")
        task = self._tasks[stage]
        elapsed = self._bar.tasks[task].elapsed or 0
        self._bar.update(task, completed=done, total=total, note=note(elapsed) if elapsed > 1 else "")


@contextmanager
def stage_bar() -> Iterator[StageBar]:
    """Show a `StageBar` during the block."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        Remaining(elapsed_when_finished=False),
    )
    with Progress(*columns) as bar:
        yield StageBar(bar)


@contextmanager
def shard_progress() -> Iterator[Callable[[SynthProgress], None]]:
    """A bar as `synth.generate.generate`'s `on_progress`, with the rate in frames per second."""
    with stage_bar() as bar:
        first: list[int] = []

        def on_progress(progress: SynthProgress) -> None:
            frames = progress.counts["frames"]
            first.append(frames)

            def note(elapsed: float) -> str:
                return f"{(frames - first[0]) / elapsed:.0f} frames/s" if frames > first[0] else ""

            bar.update("shards", progress.done, progress.total, note)

        yield on_progress


@contextmanager
def item_progress() -> Iterator[Callable[[PrepareProgress], None]]:
    """A bar as `prepare.run.prepare`'s `on_progress`, with clips, frames per second and failures."""
    with stage_bar() as bar:

        def on_progress(progress: PrepareProgress) -> None:
            def note(elapsed: float) -> str:
                if not progress.new:
                    return ""
                failed = f", {progress.failed} failed" if progress.failed else ""
                return f"{progress.clips} clips, {progress.frames / elapsed:.1f} frames/s{failed}"

            bar.update(progress.stage, progress.done, progress.total, note)

        yield on_progress


@contextmanager
def job_progress(total: int) -> Iterator[OnOutcome]:
    """A bar as `batch.run_jobs`' `on_outcome`, with one line of text for each job that has ended.

    Args:
        total: number of jobs.
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
    remarks = [*outcome.remarks, *outcome.error.splitlines()[:1]]
    return f"{line}  {' '.join(remarks)}" if remarks else line
