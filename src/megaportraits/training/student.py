"""The training stage of the student (3.3, B.1): it learns to match the teacher's images in cross-driving."""

from __future__ import annotations

import statistics
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.config import StudentConfig, TrainStudentConfig, differences
from megaportraits.data.augment import color_jitter, degrade
from megaportraits.data.batches import DistillationBatch
from megaportraits.data.distillation_dataset import DistillationDataset, DistillationPreview
from megaportraits.errors import ConfigError
from megaportraits.losses.adversarial import generator_terms
from megaportraits.losses.foreground import masked_l1
from megaportraits.models.discriminator import Discriminator
from megaportraits.models.storage import load_student, save_student
from megaportraits.models.student import Student, resized
from megaportraits.ops.color import random_colors
from megaportraits.ops.compositing import composite, over
from megaportraits.ops.pictures import psnr_of
from megaportraits.ops.resample import fit_input
from megaportraits.training.features import feature_map
from megaportraits.training.loop import fit
from megaportraits.training.perceptual import PerceptualTerms
from megaportraits.training.shown import ShownImages
from megaportraits.training.stage import Losses, TrainingStage
from megaportraits.training.views import random_background

FILE_NAME = "student.safetensors"
_JITTER = 0.7
"""Strength of the drivers' colour jitter; the base model's expression network is trained with 1."""


class StudentStage(TrainingStage[Student, DistillationBatch, DistillationBatch]):
    """G_DT and its losses: the phase "student", and with adversarial losses the phase "discriminator".

    Args:
        config: config of the run.
        model: the student with its initial weights. Parameters without `requires_grad` stay frozen; `add_avatar` trains
            the identity tensors only.
    """

    file_name, validation_count = FILE_NAME, 16

    def __init__(self, config: TrainStudentConfig, model: Student) -> None:
        super().__init__()
        self.config, self.model = config, model
        w = config.loss
        self.perceptual = PerceptualTerms(w, channels_last=config.run.channels_last)
        adversarial = bool(w.adversarial or w.feature_matching)
        self.discriminator = Discriminator(config.discriminator) if adversarial else None
        self.phases = ("student", "discriminator") if adversarial else ("student",)
        self._shown = ShownImages()

    def weights(self) -> dict[str, float]:
        """The weights of all losses that are on."""
        w = self.config.loss
        weights = {
            "reconstruction": w.reconstruction,
            "matte": w.matte if self.config.model.predict_matte else 0.0,
            "adversarial": w.adversarial,
            "feature_matching": w.feature_matching,
            "discriminator": 1.0 if self.discriminator is not None else 0.0,
        }
        return {name: weight for name, weight in weights.items() if weight} | self.perceptual.weights

    def forward(self, phase: str, batch: DistillationBatch, step: int, generator: torch.Generator) -> Losses:
        """The losses of one phase, unweighted; "discriminator" receives the images of the preceding "student"."""
        if phase == "discriminator":
            return {"discriminator": self._shown.judge(self.discriminator)}
        driver = see_driver(batch, generator if self.config.data.driver_augmentation else None)
        output = self.model(driver, batch.avatar)
        color = self._color(batch, generator)
        prediction, target = output.over(color), target_over(batch, color)
        w, losses = self.config.loss, {}
        pose = batch.pose
        if w.reconstruction:
            weight = feature_map(pose, target.shape[-1], emphasis=w.reconstruction_emphasis)
            losses["reconstruction"] = masked_l1(prediction, target, weight)
        if w.matte and output.alpha is not None:
            losses["matte"] = F.l1_loss(output.alpha, batch.matte.float() / 255)
        losses |= self.perceptual(prediction, target, pose)
        if self.discriminator is not None:
            losses |= self._adversarial(prediction, target, speaks=step > w.adversarial_from)
        return losses

    def sample(self, model: Student, batch: DistillationBatch) -> tuple[Tensor, dict[str, float]]:
        """Rows of driver, teacher and student over grey; PSNR against the teacher (dB)."""
        color = torch.full((len(batch.avatar), 3, 1, 1), 0.5, device=batch.avatar.device)
        driver = see_driver(batch, None)
        prediction, target = model(driver, batch.avatar).over(color).float(), target_over(batch, color)
        error = (prediction - target).square().mean((1, 2, 3))
        seen = fit_input(driver, self.config.model.image_size)
        rows = [torch.cat(list(images), 2) for images in (seen, target, prediction)]
        return torch.cat(rows, 1), {"psnr": statistics.fmean(map(psnr_of, error.tolist()))}

    def save(self, path: Path, model: Student, *, step: int) -> None:
        """Write the averaged student in float16."""
        save_student(path, model, notes={"steps": str(step)})

    def _color(self, batch: DistillationBatch, generator: torch.Generator) -> Tensor:
        """Flat background colours (B, 3, 1, 1): random if the student outputs alpha, else black."""
        count, device = len(batch.avatar), batch.avatar.device
        if self.config.model.predict_matte:
            return random_colors(count, generator, device)
        return torch.zeros(count, 3, 1, 1, device=device)

    def _adversarial(self, prediction: Tensor, target: Tensor, *, speaks: bool) -> Losses:
        assert self.discriminator is not None
        self._shown.keep(prediction, target)
        if not speaks:
            return {}
        losses = generator_terms(self.discriminator, prediction, target)
        return {name: loss for name, loss in losses.items() if getattr(self.config.loss, name)}


def see_driver(batch: DistillationBatch, generator: torch.Generator | None) -> Tensor:
    """Drivers (B, 3, s, s) in [0, 1] as the student receives them.

    With a generator they are augmented: half of them get another background, and all get other colours and sharpness
    than the teacher's driver, so that the student does not depend on the driver's appearance.
    """
    driver = batch.driver.image.float() / 255
    if generator is None:
        return driver
    replaced = composite(driver, batch.driver.matte.float() / 255, random_background(driver, generator))
    known = batch.driver.matte.flatten(1).amax(1) > 0
    swapped = (torch.rand(len(driver), generator=generator) < 0.5).to(known.device) & known
    driver = torch.where(swapped[:, None, None, None], replaced, driver)
    return color_jitter(degrade(driver, generator=generator), strength=_JITTER, generator=generator)


def target_over(batch: DistillationBatch, color: Tensor) -> Tensor:
    """The teacher's images over flat colours (B, 3, 1, 1); distillation samples hold them premultiplied by alpha."""
    return over(batch.image.float() / 255, batch.matte.float() / 255, color)


def train_student(
    config: TrainStudentConfig,
    avatars: list[str],
    samples: Path,
    out: Path,
    *,
    start: Student | None = None,
    resume: bool = False,
) -> int:
    """Train a student on distillation samples; returns the step reached.

    Args:
        config: config of the run; its data paths are replaced by those in `samples`.
        avatars: names of the avatars, in the order of their numbers in the samples.
        samples: folder with the sub-folders `train` and `val` of distillation samples.
        out: the run folder; the weights are `out/student.safetensors`.
        start: the student from `start_from`; None: random weights.
        resume: continue the run in `out`.
    """
    torch.manual_seed(config.run.seed)  # the initial weights are part of the recipe
    model = Student(config.model, avatars) if start is None else start
    return _train(config, model, samples, out, resume=resume)


def start_from(path: Path, config: StudentConfig, avatars: list[str]) -> Student:
    """Load a trained student of the same avatars, to continue its training; only the image size may differ.

    Raises:
        WeightsError: the file cannot be read.
        ConfigError: the student's network differs from the config, or it has other avatars.
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
    config: TrainStudentConfig, student: Student, name: str, samples: Path, out: Path, *, resume: bool = False
) -> tuple[int, Student]:
    """Add an avatar to a trained student.

    Only the new avatar's tensors are trained, starting from the mean of the others. All other weights are frozen.

    Args:
        config: config of the run; its model section is replaced by the student's.
        student: the trained student; it is not changed.
        name: name of the new avatar, which is avatar 0 in the distillation samples.
        samples: as for `train_student`.
        out: as for `train_student`.
        resume: as for `train_student`.

    Returns:
        The step reached, and a student with the new avatar as its last one.
    """
    alone = Student(student.config, [name])
    state = {key: value for key, value in student.state_dict().items() if not key.startswith("tensors.")}
    means = {f"tensors.{i}": rows.detach().mean(0, keepdim=True) for i, rows in enumerate(student.tensors)}
    alone.load_state_dict({**state, **means})
    alone.requires_grad_(False)
    alone.tensors.requires_grad_(True)
    config = config.model_copy(update={"model": student.config})
    step = _train(config, alone, samples, out, resume=resume)
    return step, join(student, load_student(out / FILE_NAME))


def join(student: Student, other: Student) -> Student:
    """A student with the avatars of both; all other weights are those of `student`."""
    both = Student(student.config, [*student.avatars, *other.avatars])
    rows = {
        f"tensors.{i}": torch.cat([a.detach(), b.detach()])
        for i, (a, b) in enumerate(zip(student.tensors, other.tensors, strict=True))
    }
    both.load_state_dict({**student.state_dict(), **rows})
    return both.eval().requires_grad_(False)


def _train(config: TrainStudentConfig, model: Student, samples: Path, out: Path, *, resume: bool) -> int:
    data = config.data.model_copy(update={"path": str(samples / "train"), "validation": str(samples / "val")})
    config = config.model_copy(update={"data": data})
    sizes = {"driver_size": config.model.input_size, "size": config.model.image_size}
    length = config.optim.steps * config.optim.batch_size
    training = DistillationDataset(data.path, length=length, seed=config.run.seed, **sizes)
    validation = DistillationPreview(data.validation, length=StudentStage.validation_count, **sizes)
    return fit(StudentStage(config, model), training, validation, config, out, resume=resume)
