"""The bar that commands show while they go through frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def frame_progress(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar that counts frames; gives the function that moves it: frames done, frames expected."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[fps]}"))
    with Progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task(label, total=None, fps="")

        def advance(done: int, total: int | None) -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=done, total=total, fps=f"{speed:.1f} frames/s" if speed else "")

        yield advance
