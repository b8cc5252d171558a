"""Run jobs: keep finished results, make missing ones, report failures at the end."""

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
from megaportraits.media.credentials import check_signable

OnOutcome = Callable[[int, int, Outcome], None]
"""Called after every job with the number of ended jobs, the number of all jobs, and the outcome."""


@dataclass
class BatchReport:
    """Result of a run.

    Attributes:
        outcomes: of the jobs that ended, in order of completion.
        total: all jobs.
        interrupted: whether Ctrl-C ended the run early.
    """

    total: int
    outcomes: list[Outcome] = field(default_factory=list)
    interrupted: bool = False

    def count(self, state: str) -> int:
        """The number of jobs that ended in a state."""
        return sum(outcome.state == state for outcome in self.outcomes)

    @property
    def failed(self) -> list[Outcome]:
        """The jobs that failed."""
        return [outcome for outcome in self.outcomes if outcome.state == "failed"]

    def lines(self) -> list[str]:
        """Counts, and why jobs failed."""
        said = [f"{self.count('done')} made", f"{self.count('finished')} finished before", f"{len(self.failed)} failed"]
        if self.interrupted:
            said.append(f"{self.total - len(self.outcomes)} left; repeat the same command to resume")
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
    """Make all missing results.

    A job is finished if its results exist and were made from the same files with the same options. Other results, and
    files that no run made, are replaced only with `overwrite`; otherwise the job fails. Ctrl-C ends the run; the next
    run starts the interrupted job again.

    Args:
        jobs: from `find_jobs`, `read_list` or created directly.
        out: the output folder; created if missing. A hidden folder in it contains the records.
        model: by default the shipped one.
        engine: how the jobs are executed; by default in this process.
        overwrite: see above.
        on_outcome: see `OnOutcome`.

    Raises:
        WeightsError, ConfigError: the model or the engine cannot be started, or two jobs have one result.
        DataError: the folder cannot be written, or another run is writing to it.
        MediaError: results are to be signed, and one is of a kind that cannot be.
    """
    model, engine = model or Model(), engine or Engine()
    if not jobs:
        raise DataError("Expected jobs, got none.", fix="Name a source and a driver, or a list.")
    check_names(jobs)
    if model.credentials is not None:
        for job in jobs:
            for path in job.outputs.values():
                check_signable(Path(path))
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
                # Wait for the workers before the folder is unlocked.
                with closing(engine.run(Worker(out, model, overwrite=overwrite), todo)) as outcomes:
                    for outcome in outcomes:
                        note(outcome)
        except KeyboardInterrupt:
            report.interrupted = True
    return report


def _settled(job: Job, records: Records, model: Model, weights: dict[str, Path], *, overwrite: bool) -> Outcome | None:
    """The outcome of a job that needs no work; None if it has to be done."""
    try:
        state, what = records.state(job, {**job.inputs, **weights}, settings_of(job, model.settings()))
    except MegaPortraitsError as error:
        return Outcome(job, "failed", error=str(error))
    if state == "finished":
        return Outcome(job, "finished")
    if overwrite or state == "missing":
        return None
    if state == "changed":
        return Outcome(job, "failed", error=f"it exists, made differently: {what}\nPass --overwrite to make it again.")
    return Outcome(
        job,
        "failed",
        error="a file that no run made has this name\nPass --overwrite to replace it.",
    )


def _absolute(job: Job) -> Job:
    """The job with absolute paths, for processes with another working directory."""
    return replace(job, source=job.source.absolute(), drivers=tuple(driver.absolute() for driver in job.drivers))
