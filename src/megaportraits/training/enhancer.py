"""The training stage of the enhancer: one training step of G_enh (3.2, 4.5, eq. 9 and 10)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.baselines.hifacegan import HiFaceGan
from megaportraits.config import HiFaceGanConfig, PictureLossConfig, TrainEnhancerConfig, TrainHiFaceGanConfig
from megaportraits.data.batches import PhotoBatch
from megaportraits.data.photos import PhotoDataset
from megaportraits.errors import ConfigError
from megaportraits.losses.adversarial import generator_terms
from megaportraits.losses.cycle import low_resolution_cycle
from megaportraits.losses.foreground import masked_l1
from megaportraits.models.base import BaseModel
from megaportraits.models.discriminator import Discriminator
from megaportraits.models.enhancer import Enhancer, PictureEnhancer, grow, over
from megaportraits.models.storage import enhancer_problem, load_base, save_enhancer
from megaportraits.nn.blocks import fold_weight_standardization
from megaportraits.nn.spectral import add_spectral_norm
from megaportraits.ops.pictures import psnr_of
from megaportraits.training.loop import fit
from megaportraits.training.perceptual import PerceptualTerms
from megaportraits.training.photos import (
    PhotoViews,
    aligned_views,
    drive_base,
    driven_pictures,
    photo_views,
    truth_of,
)
from megaportraits.training.shown import ShownImages
from megaportraits.training.stage import Losses, TrainingStage


class EnhancerStage(TrainingStage[PictureEnhancer, PhotoBatch, PhotoBatch]):
    """G_enh on the images of a frozen base model: the phase "generator", and "discriminator" with adversarial losses.

    A step has a supervised part (a photograph driven by another view of itself, with a known target) and an
    unsupervised part (a photograph driven by another person). One discriminator compares the images of both parts with
    photographs.

    Args:
        config: config of the run.
        base: the base model. It is frozen, with folded weight standardisation, and not part of checkpoints.

    Raises:
        ConfigError: the enhancer does not fit this base model.
    """

    file_name, validation_count = "enhancer.safetensors", 6

    def __init__(self, config: TrainEnhancerConfig | TrainHiFaceGanConfig, base: BaseModel) -> None:
        super().__init__()
        problem = enhancer_problem(config.model, base.config)
        if config.data.aligned_truth and not base.config.source_skip:
            problem = "data.aligned_truth follows the base's flow, and it has none (model.source_skip)"
        if problem:
            raise ConfigError(
                f"the enhancer {config.model.name!r} does not fit the base {base.config.name!r}: {problem}",
                fix="Take another --base, or --set what is named here.",
            )
        self.config = config
        self.model: PictureEnhancer = (
            HiFaceGan(config.model) if isinstance(config.model, HiFaceGanConfig) else Enhancer(config.model)
        )
        if config.optim.spectral_norm:
            add_spectral_norm(self.model, standardized=config.optim.spectral_norm_standardized)
        fold_weight_standardization(base.eval().requires_grad_(False))
        self._base = (base,)  # inside a tuple, so that state dicts and optimizers do not include it
        w = config.loss
        self.perceptual = PerceptualTerms(
            PictureLossConfig(
                perceptual=w.perceptual,
                perceptual_network=w.perceptual_network,
                perceptual_scales=w.perceptual_scales,
                face=0,
                gaze=0,
            ),
            channels_last=config.run.channels_last,
        )
        self.discriminator = Discriminator(config.discriminator) if w.adversarials else None
        self.phases = ("generator", "discriminator") if w.adversarials else ("generator",)
        self._shown = ShownImages()

    def weights(self) -> dict[str, float]:
        """The weights of all losses that are on."""
        w = self.config.loss
        weights = {
            "reconstruction": w.reconstruction,
            "adversarial": w.adversarial,
            "feature_matching": w.feature_matching,
            "cross_adversarial": w.cross_adversarial,
            "cycle": w.cycle,
            "matte": w.matte if self.config.model.matte and not self.config.model.alpha_stays else 0.0,
            "discriminator": 1.0 if self.discriminator is not None else 0.0,
        }
        return {name: weight for name, weight in weights.items() if weight} | self.perceptual.weights

    def forward(self, phase: str, batch: PhotoBatch, step: int, generator: torch.Generator) -> Losses:
        """The losses of one phase, unweighted; "discriminator" receives the images of the preceding "generator"."""
        if phase == "discriminator":
            return {"discriminator": self._shown.judge(self.discriminator)}
        config, w = self.config, self.config.loss
        if config.data.flip:
            batch = batch.mirror_half(generator)
        views = self._views(batch, generator)
        cross = w.crosses and step >= w.cross_from
        output = drive_base(self._base_on(views.color.device), batch, views, cross=cross)
        driven = driven_pictures(
            output, views, skip=config.model.source_skip, drop=config.data.source_drop, generator=generator
        )
        photograph = views.target
        views = aligned_views(output, views) if config.data.aligned_truth else views
        truth = truth_of(views, driven, alpha_stays=config.model.alpha_stays)
        enhanced = self.model(driven.picture, driven.fine)
        count = len(views.color)
        own, strange = slice(0, count), slice(count, None)
        prediction = over(enhanced[own], views.color)
        losses = {"reconstruction": masked_l1(prediction, truth)}
        if "matte" in self.weights():
            losses["matte"] = F.l1_loss(enhanced[own, 3:].float(), views.matte["target"])
        losses |= self.perceptual(prediction, truth, batch.target.pose)
        crossed = over(enhanced[strange], views.color) if cross else prediction[:0]
        if cross and w.cycle:
            losses["cycle"] = low_resolution_cycle(driven.picture[strange], enhanced[strange], factor=w.cycle_factor)
        if self.discriminator is not None:
            losses |= self._adversarial(prediction, crossed, truth, photograph)
        return {name: loss for name, loss in losses.items() if name in self.weights()}

    def sample(self, model: PictureEnhancer, batch: PhotoBatch) -> tuple[Tensor, dict[str, float]]:
        """Rows of images, and numbers about them.

        A row shows source, base model upsampled by bicubic interpolation, enhanced, target; then another person as
        driver, base model upsampled, enhanced. PSNR is in dB; sharpness is relative to the target's.
        """
        views = self._views(batch, torch.Generator().manual_seed(0))
        output = drive_base(self._base_on(views.color.device), batch, views, cross=True)
        driven = driven_pictures(output, views, skip=self.config.model.source_skip)
        views = aligned_views(output, views) if self.config.data.aligned_truth else views
        truth = truth_of(views, driven, alpha_stays=self.config.model.alpha_stays)
        enhanced = model(driven.picture, driven.fine).float()
        plain = grow(driven.picture, enhanced.shape[-1])
        colors = views.color.repeat(2, 1, 1, 1)
        ours, bicubic = (over(picture, colors).clamp(0, 1).chunk(2) for picture in (enhanced, plain))
        numbers = {
            "psnr": psnr_of(float(F.mse_loss(ours[0], truth))),
            "psnr_bicubic": psnr_of(float(F.mse_loss(bicubic[0], truth))),
            "sharpness": _detail(ours[0]) / _detail(truth),
            "sharpness_bicubic": _detail(bicubic[0]) / _detail(truth),
            "sharpness_cross": _detail(ours[1]) / _detail(truth),
            "cycle": float(low_resolution_cycle(driven.picture, enhanced, factor=self.config.loss.cycle_factor)),
        }
        pictures = (views.image["source"], bicubic[0], ours[0], truth, views.image["driver"], bicubic[1], ours[1])
        return torch.cat([torch.cat(list(x), 2) for x in pictures], 1), numbers

    def save(self, path: Path, model: PictureEnhancer, *, step: int) -> None:
        """Write the averaged model in float16."""
        save_enhancer(path, model, notes={"steps": str(step), "base": Path(self.config.base).name})

    def _views(self, batch: PhotoBatch, generator: torch.Generator) -> PhotoViews:
        background = self._base[0].config.predict_background
        return photo_views(batch, self.config.data, self.config.model.matte, generator, background=background)

    def _base_on(self, device: torch.device) -> BaseModel:
        return self._base[0].to(device)

    def _adversarial(self, prediction: Tensor, crossed: Tensor, target: Tensor, photograph: Tensor) -> Losses:
        """The generator's adversarial losses of both parts; gradients flow through the discriminator into the images.

        Features are matched with the target. The discriminator's real samples are the unmodified photographs.
        """
        assert self.discriminator is not None
        self._shown.keep(torch.cat([prediction, crossed]), photograph)
        return generator_terms(self.discriminator, prediction, target, crossed)


def train_enhancer(config: TrainEnhancerConfig | TrainHiFaceGanConfig, out: Path, *, resume: bool = False) -> int:
    """Train the enhancer of `config.base`, or a HiFaceGAN in its place, on photographs; returns the step reached.

    The weights `out/enhancer.safetensors` are for `animate --hr --enhancer`.
    """
    base = load_base(config.base)
    data, size = config.data, 2 * config.model.image_size
    smallest = data.min_size or round(0.75 * size)
    views = {"rotation": data.rotation, "shift": data.shift, "zoom": data.zoom}
    length, seed = config.optim.steps * config.optim.batch_size, config.run.seed
    training = PhotoDataset(data.path, length=length, size=size, min_size=smallest, seed=seed, **views)
    validation = None
    if data.validation:
        count = EnhancerStage.validation_count
        validation = PhotoDataset(data.validation, length=count, size=size, min_size=smallest, seed=1, **views)
    torch.manual_seed(config.run.seed)
    return fit(EnhancerStage(config, base), training, validation, config, out, resume=resume)


def _detail(image: Tensor) -> float:
    """Mean absolute difference between an image and its blur by two pixels."""
    soft = F.interpolate(F.avg_pool2d(image, 2), scale_factor=2, mode="bilinear", align_corners=False)
    return float((image - soft).abs().mean())
