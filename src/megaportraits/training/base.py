"""The base model's stage: what one training step of G_base is (3.1, 4.1, B.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits import weights
from megaportraits.config import TrainBaseConfig
from megaportraits.data.augment import color_jitter, degrade, random_warp
from megaportraits.data.clips import ClipIndex
from megaportraits.data.pairs import PairDataset
from megaportraits.losses.contrastive import contrastive_loss
from megaportraits.losses.correspondence import warp_loss
from megaportraits.losses.foreground import composite, feature_weight, masked_l1, random_colors
from megaportraits.losses.perceptual import perceptual_loss
from megaportraits.models.base import BaseModel, Identity, Output
from megaportraits.models.motion import Motion
from megaportraits.models.storage import load_base, save_base
from megaportraits.nn.efficientnet import EfficientNetLite0
from megaportraits.nn.vgg import VGG19Features
from megaportraits.ops.geometry import geodesic_distance
from megaportraits.ops.warping import Pose
from megaportraits.training.loop import fit

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Views:
    """A batch as the networks see it: composites (B, 3, S, S), and what the target is compared over."""

    source: Tensor
    target: Tensor
    target_matte: Tensor
    target_color: Tensor
    driver: Tensor
    driver_augmented: Tensor


class BaseStage(nn.Module):
    """G_base and its losses. One phase, "generator"; the discriminator's phase joins with the adversarial loss.

    Everything random in a step comes from the generator that the loop hands over, so that a step can be repeated.
    """

    phases = ("generator",)

    def __init__(self, config: TrainBaseConfig, expression_names: tuple[str, ...]) -> None:
        super().__init__()
        self.config = config
        self.model = BaseModel(config.model)
        self.readout = nn.Linear(config.model.motion.z, len(expression_names) + 2) if config.loss.expression else None
        self._perceptual: list[Callable[[Tensor], list[Tensor]]] = []
        if config.loss.perceptual:
            self._perceptual.append(_perceptual_network(config.loss.perceptual_network))

    def weights(self) -> dict[str, float]:
        """The weight of every loss, from the config."""
        w = self.config.loss
        names = (
            "reconstruction",
            "perceptual",
            "contrastive",
            "matte",
            "pose",
            "expression",
            "warp_source",
            "warp_driver",
        )
        return {n: float(getattr(w, n.split("_")[0])) for n in names if getattr(w, n.split("_")[0])}

    def forward(self, phase: str, batch: Batch, step: int, generator: torch.Generator) -> Losses:
        """The losses of one phase, unweighted."""
        views = self.views(batch, generator)
        source_pose, driver_pose, pose_error = self._poses(batch, views)
        z = self._expressions(views, source_pose, driver_pose)
        z_source, z_driver = z.chunk(2)
        identity = self.model.encode(views.source, Motion(source_pose, z_source))
        contrasts = self.config.loss.contrastive > 0 and step % self.config.loss.contrastive_every == 0
        output, crossed = self._generate(identity, Motion(driver_pose, z_driver), contrasts)
        losses = self._image_losses(batch, output, views)
        losses |= self._label_losses(batch, identity, output, z, pose_error)
        if contrasts:
            losses["contrastive"] = self._contrastive(batch, output, crossed, driver_pose, z_driver, views)
        return losses

    def sample(self, model: BaseModel, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Rows of source, driver, prediction and target, driven as at inference; PSNR (dB) and pose error (degrees)."""
        views = self.views(batch, torch.Generator().manual_seed(0))
        motion = model.motion(torch.cat([views.source, views.driver]))
        count = len(views.source)
        identity = model.encode(views.source, motion[slice(0, count)])
        output = model.render(identity, motion[slice(count, None)])
        prediction = output.over(views.target_color).float()
        angle = geodesic_distance(motion.pose.rotation[count:], batch["target_rotation"])
        numbers = {
            "psnr": float(-10 * torch.log10(F.mse_loss(prediction, views.target))),
            "pose_degrees": float(torch.rad2deg(angle).mean()),
        }
        rows = [torch.cat(list(x), 2) for x in (views.source, views.driver, prediction, views.target)]
        return torch.cat(rows, 1), numbers

    def save(self, path: Path, model: BaseModel, *, step: int) -> None:
        """The averaged model, float16."""
        save_base(path, model, notes={"steps": str(step), "recipe": self.config.model.name})

    def views(self, batch: Batch, generator: torch.Generator) -> Views:
        """Composite and augment a batch (B.1)."""
        image = {k: batch[f"{k}_image"].float() / 255 for k in ("source", "target", "driver")}
        matte = {k: batch[f"{k}_matte"].float() / 255 for k in ("source", "target", "driver")}
        count, device = len(image["source"]), image["source"].device
        pair = color_jitter(torch.cat([image["source"], image["target"]]), strength=0.25, generator=generator, repeat=2)
        image["source"], image["target"] = pair.chunk(2)
        if not self.config.model.predict_matte:
            color = torch.zeros(count, 3, 1, 1, device=device)
            source_color = target_color = color
        else:
            source_color, target_color = (random_colors(count, generator, device) for _ in range(2))
        background: Tensor = target_color
        if self.config.data.random_background:
            background = _random_background(image["target"], generator)
        driver = composite(image["driver"], matte["driver"], background)
        return Views(
            source=composite(image["source"], matte["source"], source_color),
            target=composite(image["target"], matte["target"], target_color),
            target_matte=matte["target"],
            target_color=target_color,
            driver=color_jitter(degrade(driver, generator=generator), strength=0.5, generator=generator),
            driver_augmented=self._augment_driver(driver, generator),
        )

    def _augment_driver(self, driver: Tensor, generator: torch.Generator) -> Tensor:
        driver = random_warp(driver, strength=0.04, generator=generator)
        return color_jitter(degrade(driver, generator=generator), strength=1.0, generator=generator)

    def _poses(self, batch: Batch, views: Views) -> tuple[Pose, Pose, Tensor]:
        """Source and driver pose, and the head-pose network's error against the labels (zero if it is not trained)."""
        labels = Pose.cat([_label_pose(batch, "source"), _label_pose(batch, "target")])
        count = len(views.source)
        error = labels.scale.new_zeros(())
        predicted = labels
        if self.config.loss.pose or not self.config.run.teacher_pose:
            predicted = self.model.motion.head_pose(torch.cat([views.source, views.driver]))
            error = pose_loss(predicted, labels)
        used = labels if self.config.run.teacher_pose else predicted.detach()
        return used[slice(0, count)], used[slice(count, None)], error

    def _expressions(self, views: Views, source_pose: Pose, driver_pose: Pose) -> Tensor:
        images = torch.cat([views.source, views.driver_augmented])
        return self.model.motion.encode_expression(images, Pose.cat([source_pose, driver_pose])).float()

    def _generate(self, identity: Identity, motion: Motion, contrasts: bool) -> tuple[Output, Output | None]:
        """x_s->d, and with contrast also x_s*->d, where s* is the batch's next source, in one batched pass."""
        if not contrasts:
            return self.model.render(identity, motion), None
        count = len(motion.z)
        order = torch.arange(2 * count) % count
        order[count:] = order[count:].roll(1)
        both = Motion(Pose.cat([motion.pose, motion.pose]), torch.cat([motion.z, motion.z]))
        out = self.model.render(identity[order], both)
        halves = [
            Output(out.image[s], None if out.alpha is None else out.alpha[s], out.displacement[s])
            for s in (slice(0, count), slice(count, None))
        ]
        return halves[0], halves[1]

    def _image_losses(self, batch: Batch, output: Output, views: Views) -> Losses:
        w, losses = self.config.loss, {}
        prediction = output.over(views.target_color)
        if output.alpha is None:  # the paper's form: compare on the target's foreground
            prediction = prediction * views.target_matte
        if w.reconstruction:
            weight = None
            if w.reconstruction_emphasis:
                weight = feature_weight(
                    batch["target_coords"],
                    batch["target_valid"],
                    prediction.shape[-1],
                    emphasis=w.reconstruction_emphasis,
                )
            losses["reconstruction"] = masked_l1(prediction, views.target, weight)
        if w.matte and output.alpha is not None:
            losses["matte"] = F.l1_loss(output.alpha, views.target_matte)
        if w.perceptual:
            lite = w.perceptual_network == "effnet-lite0"
            losses["perceptual"] = perceptual_loss(
                prediction,
                views.target,
                self._perceptual[0],
                weights=(0.25,) * 4 if lite else (0.2,) * 5,
                scales=w.perceptual_scales,
                relative=lite,
            )
        return losses

    def _label_losses(self, batch: Batch, identity: Identity, output: Output, z: Tensor, pose_error: Tensor) -> Losses:
        w, losses = self.config.loss, {}
        if w.pose:
            losses["pose"] = pose_error
        if self.readout is not None:
            labels = torch.cat([batch["source_readout"], batch["target_readout"]])
            losses["expression"] = readout_loss(self.readout(z), labels)
        if w.warp:
            size = (identity.volume.shape[2], identity.volume.shape[3], identity.volume.shape[4])
            for side, role, field in (
                ("source", "source", identity.displacement),
                ("driver", "target", output.displacement),
            ):
                if field is not None:
                    losses[f"warp_{side}"] = warp_loss(
                        field,
                        _label_pose(batch, role),
                        batch[f"{role}_coords"],
                        batch[f"{role}_valid"],
                        size,
                        side=side,
                    )
        return losses

    def _contrastive(
        self, batch: Batch, output: Output, crossed: Output | None, pose: Pose, z_driver: Tensor, views: Views
    ) -> Tensor:
        assert crossed is not None
        images = torch.cat([output.over(views.target_color), crossed.over(views.target_color)])
        z = self.model.motion.encode_expression(images, Pose.cat([pose, pose])).float()
        other = batch["identity"].roll(1) != batch["identity"]
        w = self.config.loss
        return contrastive_loss(
            torch.stack([half[other] for half in z.chunk(2)]),
            z_driver[other],
            z_driver.roll(1, 0)[other],
            scale=w.contrastive_scale,
            margin=w.contrastive_margin,
            margin_on=w.contrastive_margin_on,
        )


def _label_pose(batch: Batch, role: str) -> Pose:
    return Pose(batch[f"{role}_rotation"], batch[f"{role}_translation"], batch[f"{role}_scale"])


def pose_loss(predicted: Pose, labels: Pose) -> Tensor:
    """Geodesic angle (radians) plus L1 of translation (crop units) and of log scale."""
    angle = geodesic_distance(predicted.rotation, labels.rotation).mean()
    shift = (predicted.translation - labels.translation).abs().sum(-1).mean()
    return angle + shift + (predicted.scale.log() - labels.scale.log()).abs().mean()


def readout_loss(predicted: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error over the known (not NaN) labels, summed over coefficients."""
    known = ~labels.isnan()
    error = (predicted.float() - labels.nan_to_num()).square() * known
    return error.sum(1).mean()


def _random_background(images: Tensor, generator: torch.Generator) -> Tensor:
    """Backgrounds of every spatial frequency, made from the batch itself: other images, blurred, tinted, mirrored."""
    other = images.roll(1, 0).flip(3)
    size = images.shape[-1]
    level = int(torch.randint(1, 5, (1,), generator=generator))
    small = F.interpolate(other, (size // 2**level,) * 2, mode="bilinear", antialias=True, align_corners=False)
    soft = F.interpolate(small, (size, size), mode="bilinear", align_corners=False)
    tint = random_colors(len(images), generator, images.device)
    mix = torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
    return soft * (1 - mix) + tint * mix


def _perceptual_network(name: str) -> Callable[[Tensor], list[Tensor]]:
    """Frozen features; kept out of the stage's state dict, and moved to wherever the images are."""
    net = (
        VGG19Features.from_file(weights.fetch("vgg19"))
        if name == "vgg19"
        else EfficientNetLite0.from_file(weights.fetch("efficientnet_lite0"))
    )
    return lambda image: net.to(image.device)(image)


def train_base(config: TrainBaseConfig, out: Path, *, resume: bool = False, init: Path | None = None) -> int:
    """Train the base model on shards; returns the step reached.

    Args:
        config: `config.data.path` holds the training shards.
        out: the run folder.
        resume: go on with the run in `out`.
        init: start from these weights (a .safetensors of the same model) instead of random ones.
    """
    size = config.run.train_size or config.model.image_size

    def pairs(path: str, length: int, seed: int) -> PairDataset:
        names = ClipIndex(path).record(0).expression_names
        return PairDataset(
            path,
            length=length,
            size=size,
            seed=seed,
            cross_identity=config.data.cross_identity,
            expression_names=names,
        )

    training = pairs(config.data.path, config.optim.steps * config.optim.batch_size, config.run.seed)
    validation = pairs(config.data.validation, 8, 1) if config.data.validation else None
    torch.manual_seed(config.run.seed)  # the initial weights are part of the recipe
    stage = BaseStage(config, training.expression_names)
    if init is not None and not resume:
        stage.model.load_state_dict(load_base(init).state_dict())
    return fit(stage, training, validation, config, out, resume=resume)
