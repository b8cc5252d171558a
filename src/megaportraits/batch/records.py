"""Records of finished jobs, so that a second run does only what is missing.

    OUT/.megaportraits/records/KEY.json   inputs, options and results of a finished job
    OUT/.megaportraits/attempts/          jobs that are being worked on, see `engines.Attempts`
    OUT/.megaportraits/parts/KEY/         unfinished results
    OUT/.megaportraits/.lock              held by the run that writes to the folder

A record is written before its results are renamed, and contains their sizes and times. A record alone means nothing; a
result that exists together with its record is finished.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from megaportraits import __version__
from megaportraits.batch.jobs import Job
from megaportraits.engines import Attempts
from megaportraits.media import check_input
from megaportraits.media.folders import sole_process, write_json
from megaportraits.reading import FAULTS

FOLDER = ".megaportraits"
Stamp = dict[str, Any]
"""Name, size in bytes, time of the last change in nanoseconds and SHA-256 of a file."""
ResultState = Literal["missing", "finished", "changed", "foreign"]


def stamp(path: Path) -> Stamp:
    """The stamp of a file.

    Raises:
        MediaError: it cannot be read.
    """
    status = check_input(path).stat()
    digest = _digest(path, status.st_size, status.st_mtime_ns)
    return {"name": path.name, "size": status.st_size, "changed": status.st_mtime_ns, "sha256": digest}


def is_same(path: Path, known: Mapping[str, Any]) -> bool:
    """Whether a file still has its stamp; if only its time differs, the content is compared.

    Raises:
        MediaError: it cannot be read.
    """
    status = check_input(path).stat()
    if status.st_size != known["size"]:
        return False
    if status.st_mtime_ns == known["changed"]:
        return True
    return _digest(path, status.st_size, status.st_mtime_ns) == known["sha256"]


@lru_cache(maxsize=1024)
def _digest(path: Path, size: int, changed: int) -> str:
    """The hash of a file; size and time are part of the cache's key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Records:
    """The records of an output folder; holds only paths and can be created in every process.

    Args:
        out: the output folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._folder = out / FOLDER
        self.attempts = Attempts(self._folder / "attempts")

    def parts(self, job: Job) -> Path:
        """The folder of a job's unfinished results."""
        return self._folder / "parts" / key_of(job)

    def write(
        self, job: Job, inputs: Mapping[str, Stamp], settings: Mapping[str, Any], parts: Mapping[str, Path]
    ) -> None:
        """Record the results of a job before they are renamed.

        Args:
            job: the job.
            inputs: stamps of its files and of the weights, from before the work.
            settings: its options and the model's.
            parts: unfinished names of its results by role.
        """
        outputs = {role: {**stamp(path), "name": str(job.outputs[role])} for role, path in parts.items()}
        content = {"program": __version__, "inputs": dict(inputs), "settings": dict(settings), "outputs": outputs}
        write_json(self._path(job), content)

    def owned(self, job: Job) -> set[str]:
        """The roles of the results that exist as recorded."""
        record = self._read(job)
        return (
            set()
            if record is None
            else {
                role
                for role, path in job.outputs.items()
                if (self.out / path).is_file()
                and role in record["outputs"]
                and is_same(self.out / path, record["outputs"][role])
            }
        )

    def state(self, job: Job, inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> tuple[ResultState, str]:
        """The state of a job's results, and for "changed" the differences.

        Args:
            job: the job.
            inputs: files by role, the weights among them.
            settings: as for `write`.

        Raises:
            MediaError: an input cannot be read.
        """
        there = {role for role, path in job.outputs.items() if (self.out / path).exists()}
        if there - self.owned(job):
            return "foreign", ""
        record = self._read(job)
        if record is None or there != set(job.outputs):
            return "missing", ""
        before, now = record["settings"], json.loads(json.dumps(settings))
        what = [
            f"{name} {before.get(name)} there, {now.get(name)} now"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]
        for role in sorted({*record["inputs"], *inputs}):
            known = record["inputs"].get(role)
            if known is None or role not in inputs or not is_same(inputs[role], known):
                what.append(f"another {role}")
        return ("changed", ", ".join(what)) if what else ("finished", "")

    def _path(self, job: Job) -> Path:
        return self._folder / "records" / f"{key_of(job)}.json"

    def _read(self, job: Job) -> dict[str, Any] | None:
        """A job's record; None if there is none or it cannot be read."""
        try:
            record = json.loads(self._path(job).read_text(encoding="utf-8"))
            stamps = [*record["inputs"].values(), *record["outputs"].values()]
            usable = all({"size", "changed", "sha256"} <= set(known) for known in stamps)
            return record if usable and isinstance(record["settings"], dict) else None
        except FAULTS:
            return None


def key_of(job: Job) -> str:
    """A job's key in the hidden folder, derived from the name of its result."""
    return hashlib.sha256(job.output.as_posix().encode()).hexdigest()[:20]


def settings_of(job: Job, model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that determine a job's result besides its files."""
    return {
        **asdict(job.options),
        **model,
        "side_by_side": None if job.side_by_side is None else job.side_by_side.as_posix(),
    }


@contextmanager
def claimed(out: Path) -> Iterator[Records]:
    """Lock the folder against other runs, and remove unfinished files of a killed run.

    Raises:
        DataError: another process is writing to the folder, or it cannot be written.
    """
    folder = out / FOLDER
    with sole_process(folder, of=out):
        records = Records(out)
        records.attempts.sweep()
        shutil.rmtree(folder / "parts", ignore_errors=True)
        try:
            yield records
        finally:
            shutil.rmtree(folder / "parts", ignore_errors=True)
            records.attempts.sweep()
