"""Terminal output: a progress bar with rate and time left, and a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from megaportraits.prepare.filters import LABELS
from megaportraits.prepare.run import Progress, Summary


@contextmanager
def item_progress() -> Iterator[Callable[[Progress], None]]:
    """A Rich bar as `prepare`'s `on_progress`."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Bar(*columns) as bar:
        tasks = {}

        def on_progress(progress: Progress) -> None:
            if progress.stage not in tasks:
                # Work of an earlier run must not count for the speed.
                tasks[progress.stage] = bar.add_task(progress.stage, completed=progress.done, total=None, note="")
            task = tasks[progress.stage]
            elapsed = bar.tasks[task].elapsed or 0
            note = ""
            if progress.new and elapsed > 1:
                note = f"{progress.clips} clips, {progress.frames / elapsed:.1f} frames/s"
                note += f", {progress.failed} failed" if progress.failed else ""
            bar.update(task, completed=progress.done, total=progress.total, note=note)

        yield on_progress


def summary_lines(summary: Summary) -> list[str]:
    """Clips after each filter, unreadable files, and paths of the results."""
    lines = [
        f"{summary.items} videos and stills, {len(summary.failed)} unreadable, {len(summary.empty)} without a clip"
    ]
    before = summary.counts[0][1]
    for name, left in summary.counts:
        label = "clips found" if name == "found" else LABELS[name]
        lines.append(f"{left:8d}  {label}" + (f"  (-{before - left})" if left != before else ""))
        before = left
    lines += [f"{folder}: {count} clips" for folder, count in summary.folders.items()]
    return lines + [str(path) for path in summary.files]
