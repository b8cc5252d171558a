"""Distil a student from photographs and drivers: the implementation of `megaportraits distill` and `student add`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from megaportraits.choices import PrecisionChoice
from megaportraits.commands.progress import step_progress
from megaportraits.commands.torchrun import rank, wait_until
from megaportraits.config import TrainStudentConfig
from megaportraits.config.options import convert_options
from megaportraits.engines import run_apart, run_local
from megaportraits.errors import TrainingError, WeightsError
from megaportraits.extras import require
from megaportraits.media import check_output
from megaportraits.media.folders import folder_lock
from megaportraits.models.storage import (
    find_base,
    find_enhancer,
    load_student,
    read_base_config,
    read_notes,
    save_student,
)
from megaportraits.models.student import Student
from megaportraits.pipeline import Avatar, PoseFrom
from megaportraits.pipeline.distillation import DistillationWriter, find_avatars, mark_complete, samples_complete
from megaportraits.pipeline.driver_clips import Drivers, OnProgress, find_drivers
from megaportraits.pipeline.teacher import AvatarTeacher
from megaportraits.training.student import FILE_NAME, add_avatar, start_from, train_student


@dataclass(frozen=True)
class Distillation:
    """Inputs, outputs and options of a distillation.

    Attributes:
        drivers: folders of videos or shards.
        teacher: weights of the base model, by name or file.
        output: the student's file.
        run: the run folder: drivers cut from videos, distillation samples, and the training run.
        frames: maximum number of driver frames.
        per_driver: number of avatars that are rendered for each driver frame; 0: all.
        every: use every n-th frame of a video.
        resume: continue with the content of the run folder.
        enhancer: weights of the teacher's enhancer, by name or file; None: no enhancer.
        device: the teacher's device.
        init: a student of the same avatars to start from; ignored when a training run is resumed.
        teachers: number of processes that render samples; with several GPUs each process uses its own.
        teacher_batch: number of images that each process renders together.
        overwrite: whether an existing `output` may be replaced.
        precision: the teacher's precision; see `Avatar.from_pretrained`.
    """

    drivers: Sequence[Path]
    teacher: str
    output: Path
    run: Path
    frames: int = 4000
    per_driver: int = 2
    every: int = 2
    resume: bool = False
    enhancer: str | None = None
    device: str = "auto"
    init: Path | None = None
    overwrite: bool = False
    teachers: int = 1
    teacher_batch: int = 4
    precision: PrecisionChoice = "auto"

    def __post_init__(self) -> None:
        convert_options(self)

    @classmethod
    def of(cls, values: Mapping[str, Any], **changes: Any) -> Distillation:
        """From the parameters of a command; those that are no attributes are left out, `changes` replace others."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known} | changes)

    @property
    def samples(self) -> Path:
        """The folder of the distillation samples."""
        return self.run / "distillation"

    @property
    def trains(self) -> bool:
        """Whether the training run has already begun."""
        return self.resume and (self.run / "config.yaml").is_file()

    @property
    def begun(self) -> bool:
        """Whether the run folder holds anything that can be resumed."""
        return any((self.run / name).exists() for name in ("distillation", "config.yaml"))

    @property
    def overwrites(self) -> bool:
        """Whether the student's file may be replaced: by `overwrite`, or because the resumed run wrote it."""
        return self.overwrite or (self.resume and self.begun)

    def check(self) -> None:
        """Check outputs before any work.

        Raises:
            MediaError: the student's file has another suffix, or exists, and no resumed run wrote it.
            TrainingError: the run folder holds a run, and `resume` is false.
            MissingPackageError: a package that training needs is not installed.
        """
        require("train", "Distillation", "lightning_fabric", "tensorboard")
        check_output(self.output, overwrite=self.overwrites, suffixes=(".safetensors",))
        if (self.run / "lessons").is_dir():
            raise TrainingError(
                f"{self.run} holds distillation samples of version 0.9 or older, which are not read",
                fix="Choose another --run folder, or render them again after removing its folder lessons.",
            )
        if self.begun and not self.resume:
            raise TrainingError(
                f"{self.run} already holds a run", fix="Add --resume to continue, or choose another --run folder."
            )


def distill(job: Distillation, avatars: Path, config: TrainStudentConfig) -> Student | None:
    """Distil a student for all photographs in a folder.

    Returns:
        The student; None if a signal stopped the training, which can then be resumed.

    Raises:
        MegaPortraitsError: any error of its parts; nothing is overwritten.
    """
    if rank():  # process 0 has made the checks and holds the folder's lock
        return _distill(job, avatars, config)
    job.check()
    with _alone(job.run):
        return _distill(job, avatars, config)


def _distill(job: Distillation, avatars: Path, config: TrainStudentConfig) -> Student | None:
    overwrites = job.overwrites
    photos = find_avatars(avatars)
    names = list(photos)
    start = None if job.init is None or job.trains else start_from(job.init, config.model, names)
    trains = job.trains  # read before process 0 can begin the run
    notes = wait_for_samples(job) if rank() else teach(job, photos, config)
    steps = train_student(config, names, job.samples, job.run, start=start, resume=trains)
    if steps < config.optim.steps:
        return None
    student = load_student(job.run / FILE_NAME)
    if rank():
        return student
    save_student(job.output, student, notes={**notes, "steps": str(steps)}, overwrite=overwrites)
    return student


def add(job: Distillation, path: Path, photo: Path, name: str, config: TrainStudentConfig) -> Student | None:
    """Add an avatar to a finished student. Returns None if a signal stopped the training, as `distill`.

    Raises:
        WeightsError: the student already has an avatar of that name.
        MegaPortraitsError: any error of its parts; nothing is overwritten, including the student's own file.
    """
    job.check()
    with _alone(job.run):
        return _add(job, path, photo, name, config)


def _add(job: Distillation, path: Path, photo: Path, name: str, config: TrainStudentConfig) -> Student | None:
    overwrites = job.overwrites
    check_output(job.output, overwrite=True, inputs=(path,))
    before = load_student(path)
    if name in before.avatars:
        raise WeightsError(f"the student has an avatar {name!r} already", fix="Give another --name.")
    config = config.model_copy(update={"model": before.config})
    notes = teach(job, {name: photo}, config)
    steps, student = add_avatar(config, before, name, job.samples, job.run, resume=job.trains)
    if steps < config.optim.steps:
        return None
    kept = {key: value for key, value in read_notes(path).items() if key not in ("kind", "config", "avatars")}
    save_student(job.output, student, notes={**notes, **kept}, overwrite=overwrites)
    return student


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    with folder_lock(run) as free:
        if not free:
            raise TrainingError(
                f"another process works in {run}", fix="Wait for it, or stop it, or choose another --run."
            )
        yield


def teach(job: Distillation, photos: dict[str, Path], config: TrainStudentConfig) -> dict[str, str]:
    """Cut driver clips and render distillation samples; existing ones are kept. Returns notes on the teacher.

    Training forks its data workers. A fork of a process in which networks have run can deadlock on their threads, so
    the teacher runs in a process of its own if there will be workers. Several teachers share the samples' shards, after
    one process has cut the drivers.
    """
    if job.teachers > 1:
        run_apart(_find_drivers, job, config)
        work = partial(_teach, job, photos, config)
        notes, *_ = list(run_local(work, range(job.teachers), job.teachers, again=False))
    else:
        notes = run_apart(_teach, job, photos, config, 0) if config.data.workers else _teach(job, photos, config, 0)
    mark_complete(job.samples)
    return notes


def wait_for_samples(job: Distillation) -> dict[str, str]:
    """Wait until process 0 has all samples. Returns no notes."""
    wait_until(lambda: samples_complete(job.samples))
    return {}


def _picture_size(job: Distillation, config: TrainStudentConfig) -> int:
    """Side of the head crops that the teacher and the student's encoder need, pixels."""
    return max(read_base_config(job.teacher).image_size, config.model.input_size)


def _find_drivers(
    job: Distillation, config: TrainStudentConfig, tell: OnProgress | None = None
) -> tuple[Drivers, Drivers]:
    size, folder = _picture_size(job, config), job.run / "drivers"
    return find_drivers(job.drivers, folder, count=job.frames, size=size, every=job.every, progress=tell)


def _device(job: Distillation, number: int) -> str:
    """The device of teacher `number`; several teachers are distributed over the GPUs in turn."""
    gpus = torch.cuda.device_count()
    several = job.teachers > 1 and gpus > 1 and job.device in ("auto", "cuda")
    return f"cuda:{number % gpus}" if several else job.device


def _teach(job: Distillation, photos: dict[str, Path], config: TrainStudentConfig, number: int) -> dict[str, str]:
    device = _device(job, number)
    avatar = Avatar.from_pretrained(
        job.teacher,
        device=device,
        pose_from=PoseFrom.LANDMARKS,
        enhancer=job.enhancer,
        precision=job.precision,
    )
    files = [find_base(job.teacher), *([find_enhancer(job.enhancer)] if job.enhancer else [])]
    teacher = AvatarTeacher(avatar, job.teacher, files)
    with step_progress(shown=number == 0) as tell:
        train, held_out = _find_drivers(job, config, tell)
        maker = DistillationWriter(
            teacher,
            photos,
            size=_picture_size(job, config),
            driver_size=config.model.input_size,
            picture_size=config.model.image_size,
            per_driver=job.per_driver,
            seed=config.run.seed,
            batch=job.teacher_batch,
            part=(number, job.teachers),
        )
        parts: dict[str, Drivers] = {"train": train, "val": held_out}
        maker.make(parts, job.samples, lambda done, total: tell("teacher's pictures", done, total))
    return {"teacher": Path(job.teacher).name, "teacher_sha256": teacher.sha256}
