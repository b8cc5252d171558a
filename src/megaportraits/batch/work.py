"""Execute one job in any process; the first job loads the model, later jobs reuse it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from megaportraits.batch.jobs import Job
from megaportraits.batch.records import Records, key_of, settings_of, stamp
from megaportraits.choices import InpaintingName, MattingName, PrecisionChoice
from megaportraits.engines import MAX_ATTEMPTS
from megaportraits.errors import MegaPortraitsError, SigningError
from megaportraits.media import check_output
from megaportraits.media.credentials import Credentials
from megaportraits.media.files import write_all
from megaportraits.media.staging import publish
from megaportraits.pipeline.options import PoseFrom

if TYPE_CHECKING:
    from megaportraits.pipeline import AnimateReport, Avatar


@dataclass(frozen=True)
class Model:
    """The model of a run; see `Avatar.from_pretrained`.

    Attributes:
        weights: shipped weights by name, or a file.
        enhancer: the same for the second stage; None: none.
        pose_from: see `PoseFrom`.
        blendshapes: whether blendshapes correct z.
        device: a torch device, or "auto".
        precision, matting, inpainting: see `Avatar.from_pretrained`.
        mark: whether the metadata of its outputs say that they are synthetic.
        credentials: sign outputs with these; None: they are not signed.
    """

    weights: str = "nano"
    enhancer: str | None = None
    pose_from: PoseFrom = PoseFrom.LANDMARKS
    blendshapes: bool = True
    device: str = "auto"
    precision: PrecisionChoice = "auto"
    matting: MattingName = "selfie"
    inpainting: InpaintingName = "smooth"
    mark: bool = True
    credentials: Credentials | None = None

    def load(self) -> Avatar:
        """The avatar, in this process.

        Raises:
            WeightsError, ConfigError: see `Avatar.from_pretrained`.
        """
        from megaportraits.pipeline import Avatar

        return Avatar.from_pretrained(
            self.weights,
            device=self.device,
            pose_from=self.pose_from,
            blendshapes=self.blendshapes,
            enhancer=self.enhancer,
            precision=self.precision,
            matting=self.matting,
            inpainting=self.inpainting,
        )

    def files(self) -> dict[str, Path]:
        """The files of weights by role.

        Raises:
            WeightsError: there are no such weights.
        """
        from megaportraits.models.storage import find_base, find_enhancer

        second = {} if self.enhancer is None else {"enhancer": find_enhancer(self.enhancer)}
        return {"weights": find_base(self.weights), **second}

    def settings(self) -> dict[str, Any]:
        """The settings that determine a result besides the weights files."""
        insisted: dict[str, str] = {} if self.precision == "auto" else {"precision": self.precision}
        insisted |= {} if self.matting == "selfie" else {"matting": self.matting}
        insisted |= {} if self.inpainting == "smooth" else {"inpainting": self.inpainting}
        insisted |= {} if self.mark else {"mark": "no"}
        insisted |= {} if self.credentials is None else {"credentials": self.credentials.fingerprint}
        return {"pose": str(self.pose_from), "blendshapes": self.blendshapes, **insisted}


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job.

    Attributes:
        job: the job.
        state: "done" in this run, "finished" in an earlier one, or "failed".
        frames: of the result, when it was made in this run.
        seconds: duration of the work.
        remarks: notes on the result, one sentence each.
        error: why it failed.
    """

    job: Job
    state: Literal["done", "finished", "failed"]
    frames: int = 0
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    error: str = ""


class Worker:
    """Executes jobs. It is cheap to create and can be pickled; networks are loaded with the first job.

    Args:
        out: the output folder.
        model: see `Model`.
        overwrite: whether existing files may be replaced by results.
    """

    def __init__(self, out: Path, model: Model, *, overwrite: bool = False) -> None:
        self.out, self.model, self.overwrite = out, model, overwrite

    def __getstate__(self) -> dict[str, Any]:
        return {"out": self.out, "model": self.model, "overwrite": self.overwrite}

    @cached_property
    def _avatar(self) -> Avatar:
        return self.model.load()

    def __call__(self, job: Job) -> Outcome:
        """Make the results of one job.

        Returns:
            "done" or "failed"; a job that has crashed several processes is abandoned.

        Raises:
            WeightsError, ConfigError: the model cannot be loaded.
            KeyboardInterrupt: Ctrl-C; the unfinished result is discarded.
        """
        records, begun = Records(self.out), time.monotonic()
        if records.attempts.begin(key_of(job)) >= MAX_ATTEMPTS:
            error = f"its process died {MAX_ATTEMPTS} times, possibly because memory ran out"
            outcome = Outcome(job, "failed", error=error)
        else:
            avatar = self._avatar
            try:
                report = self._make(avatar, records, job)
                outcome = Outcome(job, "done", report.frames, time.monotonic() - begun, tuple(report.lines()[1:]))
            except SigningError as error:  # what it kept without signature is removed below
                outcome = Outcome(job, "failed", error=f"signing failed: {error.reason}")
            except MegaPortraitsError as error:
                outcome = Outcome(job, "failed", error=str(error))
            except Exception as error:
                # Isolate jobs from each other: no exception of one job may end the others.
                outcome = Outcome(job, "failed", error=f"{type(error).__name__}: {error}")
            finally:
                shutil.rmtree(records.parts(job), ignore_errors=True)
        records.attempts.end(key_of(job))
        return outcome

    def _make(self, avatar: Avatar, records: Records, job: Job) -> AnimateReport:
        from megaportraits.pipeline import animate_file

        # Results of a run that was killed between two renames may be replaced.
        replaceable = set(job.outputs) if self.overwrite else records.owned(job)
        for role, path in job.outputs.items():
            check_output(self.out / path, overwrite=role in replaceable, inputs=tuple(job.inputs.values()))
        inputs = {role: stamp(path) for role, path in {**job.inputs, **self.model.files()}.items()}
        parts = {role: records.parts(job) / f"{role}{path.suffix}" for role, path in job.outputs.items()}
        report = animate_file(
            avatar,
            job.source,
            job.drivers,
            parts["output"],
            job.options,
            side_by_side=parts.get("side_by_side"),
            overwrite=True,
            mark=self.model.mark,
            credentials=self.model.credentials,
        )
        if report.interrupted:
            raise KeyboardInterrupt
        records.write(job, inputs, settings_of(job, self.model.settings()), parts)
        self._publish(job, parts, replaceable)
        return report

    def _publish(self, job: Job, parts: Mapping[str, Path], replaceable: Collection[str]) -> None:
        """Rename all finished results, even if one of the names has been taken in the meantime."""
        paths = {role: self.out / job.outputs[role] for role in parts}
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        write_all(partial(publish, part, paths[role], overwrite=role in replaceable) for role, part in parts.items())
