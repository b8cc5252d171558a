"""Resuming batch runs: finished jobs are kept, changed inputs are noticed, no file is replaced without `overwrite`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, ClassVar

import pytest

from megaportraits.batch import BatchReport, Job, Model, run_jobs
from megaportraits.batch.records import Records, key_of
from megaportraits.batch.work import Worker
from megaportraits.errors import DataError, FaceError
from megaportraits.media.locks import try_lock
from megaportraits.pipeline import AnimateOptions
from megaportraits.pipeline.files import AnimateReport

OPTIONS = AnimateOptions()


@dataclass(frozen=True)
class FakeModel(Model):
    """Weights that are one small file."""

    loads: ClassVar[list[str]] = []

    def load(self) -> Any:
        self.loads.append(self.weights)

    def files(self) -> dict[str, Path]:
        return {"weights": Path(self.weights)}


class Studio:
    """Stands for `animate_file`: results say what they were made from, and single sources can go wrong."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.wrong: dict[str, BaseException | Path | str] = {}

    def __call__(
        self,
        avatar: Any,
        source: Path,
        drivers: Sequence[Path],
        output: Path,
        options: AnimateOptions,
        *,
        side_by_side: Path | None,
        overwrite: bool,
        mark: bool,
        credentials: object,
    ) -> AnimateReport:
        assert mark and credentials is None  # the model's own choice
        problem = self.wrong.get(source.name)
        output.parent.mkdir(parents=True, exist_ok=True)
        text = f"{source.read_text()} {[driver.read_text() for driver in drivers]} {options.yaw}"
        output.write_text(text)
        if side_by_side is not None:
            side_by_side.write_text(f"row of {text}")
        if isinstance(problem, BaseException):
            raise problem
        if isinstance(problem, Path):
            problem.write_text("somebody else's")
        self.made.append(source.name)
        return AnimateReport(output, 5, 0, 1, None, problem == "interrupted", None)


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Studio:
    fake = Studio()
    monkeypatch.setattr("megaportraits.pipeline.animate_file", fake, raising=False)
    FakeModel.loads.clear()
    return fake


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    driver = tmp_path / "driver.mp4"
    driver.write_text("nods")
    found = []
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jpg").write_text(name)
        found.append(Job(tmp_path / f"{name}.jpg", (driver,), PurePath(f"{name}.mp4"), OPTIONS))
    return found


@pytest.fixture
def model(tmp_path: Path) -> FakeModel:
    (tmp_path / "weights").write_text("w")
    return FakeModel(str(tmp_path / "weights"))


def states(report: BatchReport) -> dict[str, str]:
    return {outcome.job.output.stem: outcome.state for outcome in report.outcomes}


def test_a_second_run_does_nothing_and_the_model_is_loaded_once(
    studio: Studio, jobs: list[Job], model: FakeModel, tmp_path: Path
) -> None:
    out, told = tmp_path / "out", []
    report = run_jobs(jobs, out, model, on_outcome=lambda done, total, each: told.append((done, total, each.frames)))
    assert states(report) == dict.fromkeys("abc", "done") and len(model.loads) == 1
    assert told == [(1, 3, 5), (2, 3, 5), (3, 3, 5)]
    assert (out / "b.mp4").read_text() == "b ['nods'] 0.0"
    again = run_jobs(jobs, out, model)
    assert states(again) == dict.fromkeys("abc", "finished")
    assert again.lines() == ["0 made, 3 finished before, 0 failed"]
    assert studio.made == ["a.jpg", "b.jpg", "c.jpg"] and len(model.loads) == 1


def test_what_changed_is_noticed_and_made_anew_only_when_asked(
    studio: Studio, jobs: list[Job], model: FakeModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_jobs(jobs, out, model)
    (tmp_path / "a.jpg").write_text("A")
    jobs[1] = replace(jobs[1], options=AnimateOptions(yaw=20))
    report = run_jobs(jobs, out, model)
    assert states(report) == {"a": "failed", "b": "failed", "c": "finished"}
    assert "another source" in report.failed[0].error and "yaw 0.0 there, 20.0 now" in report.failed[1].error
    assert (out / "a.mp4").read_text().startswith("a ")
    assert states(run_jobs(jobs, out, model, overwrite=True)) == {"a": "done", "b": "done", "c": "finished"}
    assert (out / "a.mp4").read_text().startswith("A ") and (out / "b.mp4").read_text().endswith("20.0")
    (tmp_path / "weights").write_text("other")
    assert [each.error.splitlines()[0] for each in run_jobs(jobs, out, model).failed] == [
        "it exists, made differently: another weights"
    ] * 3


def test_files_that_were_only_touched_or_moved_have_not_changed(
    studio: Studio, jobs: list[Job], model: FakeModel, tmp_path: Path
) -> None:
    run_jobs(jobs, tmp_path / "out", model)
    os.utime(tmp_path / "driver.mp4", (1, 1))
    os.utime(tmp_path / "out" / "a.mp4", (1, 1))
    (tmp_path / "b.jpg").rename(tmp_path / "bb.jpg")
    jobs[1] = replace(jobs[1], source=tmp_path / "bb.jpg")
    assert states(run_jobs(jobs, tmp_path / "out", model)) == dict.fromkeys("abc", "finished")


def test_files_of_others_are_not_replaced_unasked(
    studio: Studio, jobs: list[Job], model: FakeModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.mp4").write_text("mine")
    studio.wrong["b.jpg"] = out / "b.mp4"  # appears while the job is at work
    report = run_jobs(jobs, out, model)
    assert states(report) == {"a": "failed", "b": "failed", "c": "done"}
    assert (out / "a.mp4").read_text() == "mine" and (out / "b.mp4").read_text() == "somebody else's"
    assert str(out / "b-2.mp4") in report.failed[1].error and (out / "b-2.mp4").read_text().startswith("b ")
    assert states(run_jobs(jobs, out, model)) == {"a": "failed", "b": "failed", "c": "finished"}
    assert states(run_jobs(jobs, out, model, overwrite=True)) == {"a": "done", "b": "done", "c": "finished"}


def test_a_result_that_was_changed_or_removed_is_noticed(
    studio: Studio, jobs: list[Job], model: FakeModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_jobs(jobs, out, model)
    (out / "a.mp4").unlink()  # also what a run leaves that is killed between a record and its result
    (out / "b.mp4").write_text("cut by hand")
    next((out / ".megaportraits" / "records").glob(f"{key_of(jobs[2])}*")).write_text("{" * 100_000)
    assert states(run_jobs(jobs, out, model)) == {"a": "done", "b": "failed", "c": "failed"}
    assert (out / "b.mp4").read_text() == "cut by hand"


def test_one_failure_leaves_the_others_and_is_reported_at_the_end(
    studio: Studio, jobs: list[Job], model: FakeModel, tmp_path: Path
) -> None:
    studio.wrong = {"a.jpg": FaceError("no face", fix="Take another."), "b.jpg": RuntimeError("out of memory")}
    report = run_jobs(jobs, tmp_path / "out", model)
    assert states(report) == {"a": "failed", "b": "failed", "c": "done"}
    assert report.lines() == [
        "1 made, 0 finished before, 2 failed",
        "a.mp4: no face\nTake another.",
        "b.mp4: RuntimeError: out of memory",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".megaportraits", "c.mp4"]
    (tmp_path / "a.jpg").unlink()
    assert "no such file" in run_jobs(jobs, tmp_path / "out", model).failed[0].error


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), "interrupted"], ids=["before", "during"])
def test_an_interrupted_job_leaves_nothing_and_is_repeated(
    studio: Studio, jobs: list[Job], model: FakeModel, tmp_path: Path, problem: BaseException | str
) -> None:
    """Ctrl-C before the first frame is raised by `animate_file`; later it leaves a shorter video."""
    out = tmp_path / "out"
    studio.wrong["b.jpg"] = problem
    report = run_jobs(jobs, out, model)
    assert report.interrupted and states(report) == {"a": "done"}
    assert "2 left; repeat the same command to resume" in report.lines()[0]
    assert not (out / "b.mp4").exists() and not list((out / ".megaportraits").rglob("*.mp4"))
    studio.wrong.clear()
    assert states(run_jobs(jobs, out, model)) == {"a": "finished", "b": "done", "c": "done"}


def test_a_job_whose_processes_died_is_given_up(
    studio: Studio, jobs: list[Job], model: FakeModel, tmp_path: Path
) -> None:
    records = Records(tmp_path)
    for _ in range(2):
        records.attempts.begin(key_of(jobs[0]))
    outcome = Worker(tmp_path, model)(jobs[0])
    assert outcome.state == "failed" and "its process died 2 times" in outcome.error and not studio.made


def test_two_runs_do_not_fill_one_folder(studio: Studio, jobs: list[Job], model: FakeModel, tmp_path: Path) -> None:
    lock = tmp_path / "out" / ".megaportraits" / ".lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        assert try_lock(file.fileno())  # as another process does
        with pytest.raises(DataError, match="Another process is writing to"):
            run_jobs(jobs, tmp_path / "out", model)
    assert states(run_jobs(jobs, tmp_path / "out", model)) == dict.fromkeys("abc", "done")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        run_jobs(jobs, tmp_path / "file", model)


def test_a_result_in_a_row_belongs_to_its_job(
    studio: Studio, jobs: list[Job], model: FakeModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    jobs[0] = replace(jobs[0], side_by_side=PurePath("rows/a.mp4"))
    run_jobs(jobs, out, model)
    assert (out / "rows" / "a.mp4").read_text().startswith("row of a ")
    (out / "rows" / "a.mp4").unlink()  # also what a run leaves that is killed between the two
    assert states(run_jobs(jobs, out, model)) == {"a": "done", "b": "finished", "c": "finished"}
    assert (out / "rows" / "a.mp4").is_file()
    (out / "rows" / "a.mp4").write_text("cut by hand")
    (out / "a.mp4").unlink()
    assert states(run_jobs(jobs, out, model)) == {"a": "failed", "b": "finished", "c": "finished"}
