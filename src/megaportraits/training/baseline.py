"""The training stage of the baselines: the paper's competitors, trained on the same pairs as the base model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.baselines.base import Baseline, BaselineOutput
from megaportraits.baselines.face_vid2vid import FaceMotion, FaceSource
from megaportraits.baselines.fomm import Keypoints
from megaportraits.baselines.storage import make_baseline, save_baseline
from megaportraits.config import TrainBaselineConfig
from megaportraits.data.batches import MattedImage, PairBatch
from megaportraits.losses.adversarial import generator_terms
from megaportraits.losses.equivariance import RandomTransform, equivariance_loss, jacobian_equivariance_loss
from megaportraits.losses.foreground import masked_l1
from megaportraits.losses.keypoints import deformation_prior, keypoint_prior, rotation_loss
from megaportraits.models.discriminator import Discriminator
from megaportraits.nn.spectral import add_spectral_norm
from megaportraits.training.loop import fit
from megaportraits.training.pairs import run_pairs
from megaportraits.training.perceptual import PerceptualTerms
from megaportraits.training.shown import ShownImages
from megaportraits.training.stage import Losses, TrainingStage
from megaportraits.training.views import Views, make_views


class BaselineStage(TrainingStage[Baseline[Any, Any], PairBatch, PairBatch]):
    """A baseline and its losses: the phase "generator", and with adversarial losses the phase "discriminator".

    The driver is always the target's own frame, as in the papers, also in pairs whose driver is another person. It has
    the base model's mild augmentation.

    Args:
        config: config of the run.
        expression_names: names of the labels of the pairs.
    """

    file_name, validation_count = "baseline.safetensors", 8

    def __init__(self, config: TrainBaselineConfig, expression_names: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.expression_names = config, expression_names
        self.model = make_baseline(config.model)
        if config.optim.spectral_norm:
            add_spectral_norm(self.model, standardized=config.optim.spectral_norm_standardized)
        self.perceptual = PerceptualTerms(config.loss, channels_last=config.run.channels_last)
        adversarial = bool(config.loss.adversarial or config.loss.feature_matching)
        self.discriminator = Discriminator(config.discriminator) if adversarial else None
        self.phases = ("generator", "discriminator") if adversarial else ("generator",)
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
            "equivariance": w.equivariance,
            "equivariance_jacobian": w.equivariance_jacobian,
            "keypoint_prior": w.keypoint_prior,
            "head_pose": w.head_pose,
            "deformation": w.deformation,
        }
        return {name: weight for name, weight in weights.items() if weight} | self.perceptual.weights

    def forward(self, phase: str, batch: PairBatch, step: int, generator: torch.Generator) -> Losses:
        """The losses of one phase, unweighted; "discriminator" receives the images of the preceding "generator"."""
        if phase == "discriminator":
            return {"discriminator": self._shown.judge(self.discriminator)}
        if self.config.data.flip:
            batch = batch.mirror_half(generator, self.expression_names)
        views = self._views(batch, generator)
        encoded, motion = self.model.encode(views.source), self.model.motion(views.driver)
        losses = self._image_losses(batch, self.model.render(encoded, motion), views)
        losses |= self._motion_losses(batch, encoded, motion, views, generator)
        return {name: loss for name, loss in losses.items() if name in self.weights()}

    def sample(self, model: Baseline[Any, Any], batch: PairBatch) -> tuple[Tensor, dict[str, float]]:
        """Rows of source, driver, prediction and target; PSNR (dB) of the prediction."""
        views = self._views(batch, torch.Generator().manual_seed(0))
        prediction = model(views.source, views.driver).over(views.target_color).float()
        numbers = {"psnr": float(-10 * torch.log10(F.mse_loss(prediction, views.target)))}
        pictures = (views.source, views.driver, prediction, views.target)
        return torch.cat([torch.cat(list(x), 2) for x in pictures], 1), numbers

    def save(self, path: Path, model: Baseline[Any, Any], *, step: int) -> None:
        """Write the averaged model in float16."""
        save_baseline(path, model, self.config.model, notes={"steps": str(step), "recipe": self.config.model.name})

    def _views(self, batch: PairBatch, generator: torch.Generator) -> Views:
        own = MattedImage(batch.target.image, batch.target.matte)
        return make_views(replace(batch, driver=own), self.config, generator)

    def _image_losses(self, batch: PairBatch, output: BaselineOutput, views: Views) -> Losses:
        prediction = output.over(views.target_color)
        losses = {"reconstruction": masked_l1(prediction, views.target)}
        if output.alpha is not None:
            losses["matte"] = F.l1_loss(output.alpha, views.target_matte)
        losses |= self.perceptual(prediction, views.target, batch.target.pose)
        if self.discriminator is not None:
            self._shown.keep(prediction, views.target)
            losses |= generator_terms(self.discriminator, prediction, views.target)
        return losses

    def _motion_losses(
        self, batch: PairBatch, encoded: Any, motion: Any, views: Views, generator: torch.Generator
    ) -> Losses:
        w = self.config.loss
        transform = RandomTransform.draw(
            len(views.driver),
            affine=w.transform_affine,
            bend=w.transform_bend,
            points=w.transform_points,
            generator=generator,
            device=views.driver.device,
        )
        warped = self.model.motion(transform.warp(views.driver)) if w.equivariance or w.equivariance_jacobian else None
        if isinstance(motion, Keypoints):
            return _fomm_losses(motion, warped, transform)
        return _face_vid2vid_losses(encoded, motion, warped, transform, batch.target.rotation)


def _fomm_losses(motion: Keypoints, warped: Keypoints | None, transform: RandomTransform) -> Losses:
    """The losses of FOMM's keypoints; `warped` are those of the driver after `transform`."""
    if warped is None:
        return {}
    return {
        "equivariance": equivariance_loss(motion.position, warped.position, transform),
        "equivariance_jacobian": jacobian_equivariance_loss(
            motion.jacobian, warped.jacobian, warped.position, transform
        ),
    }


def _face_vid2vid_losses(
    source: FaceSource, motion: FaceMotion, warped: FaceMotion | None, transform: RandomTransform, rotation: Tensor
) -> Losses:
    """The losses of face-vid2vid's keypoints; `rotation` (B, 3, 3) are the driver's labelled head rotations."""
    points = motion.keypoints(source.canonical)
    losses = {
        "keypoint_prior": keypoint_prior(points),
        "head_pose": rotation_loss(motion.rotation, rotation),
        "deformation": deformation_prior(motion.deltas),
    }
    if warped is not None:
        moved = warped.keypoints(source.canonical)
        losses["equivariance"] = equivariance_loss(points[..., :2], moved[..., :2], transform)
    return losses


def train_baseline(config: TrainBaselineConfig, out: Path, *, resume: bool = False) -> int:
    """Train a baseline on shards of clips; returns the step reached.

    The pairs are those of `train_base` with the same data section, seed and number of samples.

    Args:
        config: config of the run; `config.data.path` is the folder of training shards.
        out: the run folder; it gets the weights `baseline.safetensors`.
        resume: continue the run in `out`.

    Raises:
        TrainingError: as for `fit`.
        DataError: the shards cannot be read.
        WeightsError: the weights of a perceptual network cannot be loaded.
    """
    with run_pairs(config, BaselineStage.validation_count) as (training, validation):
        torch.manual_seed(config.run.seed)  # the initial weights are part of the recipe
        stage = BaselineStage(config, training.expression_names)
        return fit(stage, training, validation, config, out, resume=resume)
