"""From photographs and drivers to a student: the work behind `megaportraits distill` and `student add`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from megaportraits.config import TrainStudentConfig
from megaportraits.config.options import convert_options
from megaportraits.engines import run_apart
from megaportraits.errors import TrainingError, WeightsError
from megaportraits.media import check_output
from megaportraits.media.folders import folder_lock
from megaportraits.models.storage import find_base, find_enhancer, load_student, read_notes, save_student
from megaportraits.models.student import Student
from megaportraits.pipeline import Avatar, PoseFrom
from megaportraits.pipeline.driver_clips import Drivers, Progress, find_drivers
from megaportraits.pipeline.lessons import LessonMaker, find_avatars
from megaportraits.pipeline.teacher import AvatarTeacher
from megaportraits.training.student import FILE_NAME, add_avatar, start_from, train_student


@dataclass(frozen=True)
class Distillation:
    """What a student learns from, and where everything goes.

    Attributes:
        drivers: folders of videos or shards.
        teacher: weights of the base model, by name or file.
        output: the student's file.
        run: the run folder: drivers cut from videos, lessons, and the training run.
        frames: so many driver frames, at most.
        per_driver: avatars drawn for each of them; 0 is all.
        every: use every n-th frame of a video.
        resume: go on with what the run folder holds.
        enhancer: weights of the teacher's second stage, by name or file; None: without.
        device: the teacher's.
        init: a student of the same avatars to start from; a run that goes on has started already.
        overwrite: whether an existing `output` may be replaced.
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

    def __post_init__(self) -> None:
        convert_options(self)

    @property
    def lessons(self) -> Path:
        """Where the teacher's pictures are kept."""
        return self.run / "lessons"

    @property
    def trains(self) -> bool:
        """Whether the training run has begun before."""
        return self.resume and (self.run / "config.yaml").is_file()

    @property
    def begun(self) -> bool:
        """Whether the run folder holds anything to go on with."""
        return any((self.run / name).exists() for name in ("lessons", "config.yaml"))

    @property
    def overwrites(self) -> bool:
        """Whether the student's file may be replaced: it was said, or the file is that of the run which goes on."""
        return self.overwrite or (self.resume and self.begun)

    def check(self) -> None:
        """Refuse to overwrite, before any work.

        Raises:
            MediaError: the student's file exists, and is not that of a run to go on with.
            TrainingError: the run folder is in use, and this is not to go on with it.
        """
        if self.output.suffix != ".safetensors":
            raise WeightsError(
                f"{self.output}: expected a file *.safetensors", fix="For example -o student.safetensors."
            )
        check_output(self.output, overwrite=self.overwrites)
        if self.begun and not self.resume:
            raise TrainingError(
                f"{self.run} already holds a run", fix="Add --resume to go on, or choose another --run folder."
            )


def distill(job: Distillation, avatars: Path, config: TrainStudentConfig) -> Student | None:
    """A student of all photographs in a folder; None when a signal stopped the training, which can go on later.

    Raises:
        MegaPortraitsError: as its parts say; nothing is overwritten.
    """
    job.check()
    with _alone(job.run):
        return _distill(job, avatars, config)


def _distill(job: Distillation, avatars: Path, config: TrainStudentConfig) -> Student | None:
    overwrites = job.overwrites
    photos = find_avatars(avatars)
    names = list(photos)
    start = None if job.init is None or job.trains else start_from(job.init, config.model, names)
    notes = teach(job, photos, config)
    steps = train_student(config, names, job.lessons, job.run, start=start, resume=job.trains)
    if steps < config.optim.steps:
        return None
    student = load_student(job.run / FILE_NAME)
    save_student(job.output, student, notes={**notes, "steps": str(steps)}, overwrite=overwrites)
    return student


def add(job: Distillation, path: Path, photo: Path, name: str, config: TrainStudentConfig) -> Student | None:
    """A finished student with one more avatar; None as `distill`.

    Raises:
        WeightsError: the student has an avatar of that name.
        MegaPortraitsError: as its parts say; nothing is overwritten, the student's own file neither.
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
    steps, student = add_avatar(config, before, name, job.lessons, job.run, resume=job.trains)
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
    """Cut drivers, draw lessons; what is there already stays. Returns notes on the teacher.

    Training's workers are forked, and a fork of a process in which networks have run may wait for their threads for
    ever: where there will be workers, the teacher works in a process of its own.
    """
    if not config.data.workers:
        return _teach(job, photos, config)
    return run_apart(_teach, job, photos, config)


def _teach(job: Distillation, photos: dict[str, Path], config: TrainStudentConfig) -> dict[str, str]:
    avatar = Avatar.from_pretrained(job.teacher, device=job.device, pose_from=PoseFrom.LANDMARKS, enhancer=job.enhancer)
    files = [find_base(job.teacher), *([find_enhancer(job.enhancer)] if job.enhancer else [])]
    teacher = AvatarTeacher(avatar, job.teacher, files)
    size = max(avatar.size, config.model.input_size)
    with _bar() as tell:
        train, held_out = find_drivers(
            job.drivers, job.run / "drivers", count=job.frames, size=size, every=job.every, progress=tell
        )
        maker = LessonMaker(
            teacher,
            photos,
            size=size,
            driver_size=config.model.input_size,
            picture_size=config.model.image_size,
            per_driver=job.per_driver,
            seed=config.run.seed,
        )
        parts: dict[str, Drivers] = {"train": train, "val": held_out}
        maker.make(parts, job.lessons, lambda done, total: tell("teacher's pictures", done, total))
    return {"teacher": Path(job.teacher).name, "teacher_sha256": teacher.sha256}


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
