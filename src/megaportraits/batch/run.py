"""A run over jobs: what is finished is kept, what is missing is made, what fails is told at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from megaportraits.batch.jobs import Job, check_names
from megaportraits.batch.records import Records, claimed, settings_of
from megaportraits.batch.work import Model, Outcome, Worker
from megaportraits.engines import Engine
from megaportraits.errors import DataError, MegaPortraitsError

OnOutcome = Callable[[int, int, Outcome], None]
"""Told after every job: the jobs that have ended, all jobs, and how this one ended."""


@dataclass
class BatchReport:
    """How a run ended.

    Attributes:
        outcomes: of the jobs that ended, in the order in which they did.
        total: all jobs.
        interrupted: whether Ctrl-C ended the run early.
    """

    total: int
    outcomes: list[Outcome] = field(default_factory=list)
    interrupted: bool = False

    def count(self, state: str) -> int:
        """How many jobs ended in a state."""
        return sum(outcome.state == state for outcome in self.outcomes)

    @property
    def failed(self) -> list[Outcome]:
        """The jobs that failed."""
        return [outcome for outcome in self.outcomes if outcome.state == "failed"]

    def lines(self) -> list[str]:
        """Counts, and why jobs failed."""
        said = [f"{self.count('done')} made", f"{self.count('finished')} finished before", f"{len(self.failed)} failed"]
        if self.interrupted:
            said.append(f"{self.total - len(self.outcomes)} left; the same line goes on")
        return [", ".join(said), *(f"{each.job.output}: {each.error}" for each in self.failed)]


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    model: Model | None = None,
    *,
    engine: Engine | None = None,
    overwrite: bool = False,
    on_outcome: OnOutcome = lambda done, total, outcome: None,
) -> BatchReport:
    """Make the results of all jobs that are not there yet.

    A job is finished when its results are there, made from the same files with the same options. Results that are
    there and differ in that, and files that no run made, are replaced with `overwrite` only, otherwise the job fails.
    Ctrl-C ends the run; the job at work is made anew by the next.

    Args:
        jobs: from `find_jobs`, `read_list` or made by hand.
        out: the output folder; made when it is missing. A hidden folder in it remembers what was made.
        model: by default the shipped one.
        engine: where the work is done; by default in this process.
        overwrite: see above.
        on_outcome: see `OnOutcome`.

    Raises:
        WeightsError, ConfigError: the model or the engine cannot be started, or two jobs have one result.
        DataError: the folder cannot be written, or another run fills it.
    """
    model, engine = model or Model(), engine or Engine()
    if not jobs:
        raise DataError("Expected jobs, got none.", fix="Name a source and a driver, or a list.")
    check_names(jobs)
    out = out.absolute()
    weights = model.files()
    report = BatchReport(len(jobs))

    def note(outcome: Outcome) -> None:
        report.outcomes.append(outcome)
        on_outcome(len(report.outcomes), report.total, outcome)

    with claimed(out) as records:
        try:
            todo = []
            for job in (_absolute(job) for job in jobs):
                outcome = _settled(job, records, model, weights, overwrite=overwrite)
                if outcome is None:
                    todo.append(job)
                else:
                    note(outcome)
            if todo:
                # Workers have ended before the folder is free again.
                with closing(engine.run(Worker(out, model, overwrite=overwrite), todo)) as outcomes:
                    for outcome in outcomes:
                        note(outcome)
        except KeyboardInterrupt:
            report.interrupted = True
    return report


def _settled(job: Job, records: Records, model: Model, weights: dict[str, Path], *, overwrite: bool) -> Outcome | None:
    """How a job ends without work; None when it has to be done."""
    try:
        state, what = records.state(job, {**job.inputs, **weights}, settings_of(job, model.settings()))
    except MegaPortraitsError as error:
        return Outcome(job, "failed", error=str(error))
    if state == "finished":
        return Outcome(job, "finished")
    if overwrite or state == "missing":
        return None
    if state == "changed":
        return Outcome(job, "failed", error=f"made before, but differently: {what}\n--overwrite makes it anew.")
    return Outcome(job, "failed", error="a file of this name is there already, not made by this job\nPass --overwrite.")


def _absolute(job: Job) -> Job:
    """The job for processes that may work in another folder."""
    return replace(job, source=job.source.absolute(), drivers=tuple(driver.absolute() for driver in job.drivers))
