"""The student's stage (3.3, B.1): match the teacher's pictures in cross-driving, and nothing else."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import StudentConfig, TrainStudentConfig, differences
from megaportraits.data.augment import color_jitter, degrade
from megaportraits.data.distillation_dataset import DistillationDataset, DistillationPreview
from megaportraits.errors import ConfigError
from megaportraits.losses.adversarial import generator_terms, judge
from megaportraits.losses.foreground import composite, masked_l1
from megaportraits.models.discriminator import Discriminator
from megaportraits.models.storage import load_student, save_student
from megaportraits.models.student import Student, resized
from megaportraits.ops.color import random_colors
from megaportraits.ops.warping import Pose
from megaportraits.training.features import feature_map
from megaportraits.training.loop import fit
from megaportraits.training.perceptual import PerceptualTerms
from megaportraits.training.views import random_background

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]

FILE_NAME = "student.safetensors"
_JITTER = 0.7
"""Strength of the drivers' colour jitter; 1 is what the base model's expression network has to bear."""


class StudentStage(nn.Module):
    """G_DT and its losses: the phase "student", and with adversarial losses the phase "discriminator".

    Args:
        config: of the run.
        model: the student as it starts. What of it needs no gradient stays as it is: where only the identity tensors
            learn, an avatar is added.
    """

    file_name, validation_count = FILE_NAME, 16

    def __init__(self, config: TrainStudentConfig, model: Student) -> None:
        super().__init__()
        self.config, self.model = config, model
        w = config.loss
        self.perceptual = PerceptualTerms(w)
        adversarial = bool(w.adversarial or w.feature_matching)
        self.discriminator = Discriminator(config.discriminator) if adversarial else None
        self.phases = ("student", "discriminator") if adversarial else ("student",)
        self._shown: tuple[Tensor, Tensor] | None = None

    def weights(self) -> dict[str, float]:
        """The weight of every loss that is switched on."""
        w = self.config.loss
        weights = {
            "reconstruction": w.reconstruction,
            "matte": w.matte if self.config.model.predict_matte else 0.0,
            "adversarial": w.adversarial,
            "feature_matching": w.feature_matching,
            "discriminator": 1.0 if self.discriminator is not None else 0.0,
        }
        return {name: weight for name, weight in weights.items() if weight} | self.perceptual.weights

    def forward(self, phase: str, batch: Batch, step: int, generator: torch.Generator) -> Losses:
        """The losses of one phase, unweighted; "discriminator" judges the pictures of the "student" before it."""
        if phase == "discriminator":
            return {"discriminator": self._judge()}
        driver = see_driver(batch, generator if self.config.data.driver_augmentation else None)
        output = self.model(driver, batch["avatar"])
        color = self._color(batch, generator)
        prediction, target = output.over(color), target_over(batch, color)
        w, losses = self.config.loss, {}
        pose = Pose(batch["rotation"], batch["translation"], batch["scale"])
        if w.reconstruction:
            weight = feature_map(pose, target.shape[-1], emphasis=w.reconstruction_emphasis)
            losses["reconstruction"] = masked_l1(prediction, target, weight)
        if w.matte and output.alpha is not None:
            losses["matte"] = F.l1_loss(output.alpha, batch["matte"].float() / 255)
        losses |= self.perceptual(prediction, target, pose)
        if self.discriminator is not None:
            losses |= self._adversarial(prediction, target, speaks=step > w.adversarial_from)
        return losses

    def sample(self, model: Student, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Rows of driver, teacher and student over grey; PSNR against the teacher (dB)."""
        color = torch.full((len(batch["avatar"]), 3, 1, 1), 0.5, device=batch["avatar"].device)
        driver = see_driver(batch, None)
        prediction, target = model(driver, batch["avatar"]).over(color).float(), target_over(batch, color)
        error = (prediction - target).square().mean((1, 2, 3))
        size = (self.config.model.image_size,) * 2
        seen = F.interpolate(driver, size, mode="bilinear", antialias=True, align_corners=False)
        rows = [torch.cat(list(images), 2) for images in (seen, target, prediction)]
        return torch.cat(rows, 1), {"psnr": float((-10 * error.log10()).mean())}

    def save(self, path: Path, model: Student, *, step: int) -> None:
        """The averaged student, float16."""
        save_student(path, model, notes={"steps": str(step)})

    def _color(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """What stands behind the pictures: any colour where the student says what is person, else black."""
        count, device = len(batch["avatar"]), batch["avatar"].device
        if self.config.model.predict_matte:
            return random_colors(count, generator, device)
        return torch.zeros(count, 3, 1, 1, device=device)

    def _adversarial(self, prediction: Tensor, target: Tensor, *, speaks: bool) -> Losses:
        assert self.discriminator is not None
        self._shown = prediction.detach(), target
        if not speaks:
            return {}
        losses = generator_terms(self.discriminator, prediction, target)
        return {name: loss for name, loss in losses.items() if getattr(self.config.loss, name)}

    def _judge(self) -> Tensor:
        assert self.discriminator is not None and self._shown is not None, "the student's phase comes first"
        fake, real = self._shown
        self._shown = None
        return judge(self.discriminator, real, fake)


def see_driver(batch: Batch, generator: torch.Generator | None) -> Tensor:
    """Drivers (B, 3, s, s) in [0, 1] as the student sees them.

    With a generator half of them stand before another background, and all differ in colours and sharpness from what
    the teacher saw: it is the teacher's reading of the driver that counts, not the driver's looks.
    """
    driver = batch["driver"].float() / 255
    if generator is None:
        return driver
    replaced = composite(driver, batch["driver_matte"].float() / 255, random_background(driver, generator))
    known = batch["driver_matte"].flatten(1).amax(1) > 0
    swapped = (torch.rand(len(driver), generator=generator) < 0.5).to(known.device) & known
    driver = torch.where(swapped[:, None, None, None], replaced, driver)
    return color_jitter(degrade(driver, generator=generator), strength=_JITTER, generator=generator)


def target_over(batch: Batch, color: Tensor) -> Tensor:
    """The teacher's pictures over flat colours (B, 3, 1, 1); lessons hold them premultiplied."""
    return batch["image"].float() / 255 + color * (1 - batch["matte"].float() / 255)


def train_student(
    config: TrainStudentConfig,
    avatars: list[str],
    lessons: Path,
    out: Path,
    *,
    start: Student | None = None,
    resume: bool = False,
) -> int:
    """Train a student on lessons; returns the step reached.

    Args:
        config: of the run; its data paths are taken from `lessons`.
        avatars: their names, in the lessons' order.
        lessons: folder with `train` and `val`.
        out: the run folder; the student becomes `out/student.safetensors`.
        start: of `start_from`; None: from nothing.
        resume: go on with the run in `out`.
    """
    torch.manual_seed(config.run.seed)  # the initial weights are part of the recipe
    model = Student(config.model, avatars) if start is None else start
    return _train(config, model, lessons, out, resume=resume)


def start_from(path: Path, config: StudentConfig, avatars: list[str]) -> Student:
    """A finished student of the same avatars, to go on with; only its image size may be another.

    Raises:
        WeightsError: it cannot be read.
        ConfigError: it is another network, or has other avatars.
    """
    before = load_student(path)
    if before.avatars != tuple(avatars):
        raise ConfigError(
            f"{path} has the avatars {', '.join(before.avatars)}, but the photographs are {', '.join(avatars)}",
            fix="Give the photographs it was made of, or start anew without --init.",
        )
    if differing := differences(before.config, config, ignore=("name", "image_size")):
        raise ConfigError(
            f"{path} is another network than the config (its -> the config's): {'; '.join(differing)}",
            fix="Set these values of the model section as it has them, or start anew without --init.",
        )
    return resized(before, config.image_size).train().requires_grad_(True)


def add_avatar(
    config: TrainStudentConfig, student: Student, name: str, lessons: Path, out: Path, *, resume: bool = False
) -> tuple[int, Student]:
    """Teach a finished student one more avatar; nothing else of it changes.

    Only the new avatar's tensors learn, from the mean of the others on.

    Args:
        config: of the run; its model section is the student's.
        student: is not changed.
        name: of the new avatar, which the lessons show as avatar 0.
        lessons: as for `train_student`.
        out: as for `train_student`.
        resume: as for `train_student`.

    Returns:
        The step reached, and the student with the new avatar at the end.
    """
    alone = Student(student.config, [name])
    state = {key: value for key, value in student.state_dict().items() if not key.startswith("tensors.")}
    means = {f"tensors.{i}": rows.detach().mean(0, keepdim=True) for i, rows in enumerate(student.tensors)}
    alone.load_state_dict({**state, **means})
    alone.requires_grad_(False)
    alone.tensors.requires_grad_(True)
    config = config.model_copy(update={"model": student.config})
    step = _train(config, alone, lessons, out, resume=resume)
    return step, join(student, load_student(out / FILE_NAME))


def join(student: Student, other: Student) -> Student:
    """A student with the avatars of both; all else is the first one's."""
    both = Student(student.config, [*student.avatars, *other.avatars])
    rows = {
        f"tensors.{i}": torch.cat([a.detach(), b.detach()])
        for i, (a, b) in enumerate(zip(student.tensors, other.tensors, strict=True))
    }
    both.load_state_dict({**student.state_dict(), **rows})
    return both.eval().requires_grad_(False)


def _train(config: TrainStudentConfig, model: Student, lessons: Path, out: Path, *, resume: bool) -> int:
    data = config.data.model_copy(update={"path": str(lessons / "train"), "validation": str(lessons / "val")})
    config = config.model_copy(update={"data": data})
    sizes = {"driver_size": config.model.input_size, "size": config.model.image_size}
    length = config.optim.steps * config.optim.batch_size
    training = DistillationDataset(data.path, length=length, seed=config.run.seed, **sizes)
    validation = DistillationPreview(data.validation, length=StudentStage.validation_count, **sizes)
    return fit(StudentStage(config, model), training, validation, config, out, resume=resume)
