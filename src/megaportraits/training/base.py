"""The training stage of the base model: one training step of G_base (3.1, 4.1, B.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megaportraits.config import TrainBaseConfig
from megaportraits.data.batches import JointBatch, PairBatch
from megaportraits.errors import TrainingError
from megaportraits.losses.adversarial import generator_terms
from megaportraits.losses.contrastive import contrastive_loss
from megaportraits.losses.correspondence import flow_loss, landmark_loss, surface_loss, warp_loss
from megaportraits.losses.foreground import EYES_TO_MOUTH, feature_weight, masked_l1
from megaportraits.models.base import BaseModel
from megaportraits.models.discriminator import Discriminator
from megaportraits.models.identity import Identity, Output
from megaportraits.models.motion import Expression, Motion, infer_motion
from megaportraits.models.source_skip import SourceView
from megaportraits.models.storage import load_base, load_head_pose, load_motion, save_base
from megaportraits.nn.spectral import add_spectral_norm
from megaportraits.ops.geometry import geodesic_distance
from megaportraits.ops.pictures import psnr_of
from megaportraits.ops.resample import shrink
from megaportraits.ops.warping import Pose
from megaportraits.training.component_landmarks import ComponentLandmarkLoss
from megaportraits.training.components import ComponentCrops, ComponentDiscriminator
from megaportraits.training.features import feature_map, visible_irises
from megaportraits.training.loop import fit
from megaportraits.training.pairs import run_pairs
from megaportraits.training.perceptual import PerceptualTerms
from megaportraits.training.readout import measured_blendshapes, pose_loss, readout_loss, readout_weights
from megaportraits.training.ring import previous_sample, ranks, share_of, with_previous
from megaportraits.training.shown import ShownImages
from megaportraits.training.stage import B, Losses, TrainingStage
from megaportraits.training.start import require_head_pose, start_from
from megaportraits.training.views import Views, make_views, shown

_ORDER = "the generator's phase comes first"

SPECTRAL_PARTS = ("appearance", "embed_z", "warp_source", "generator_3d", "warp_driver", "projection", "generator_2d")
"""The parts with spectral norm (B.1: "generators"): all of G_base but E_mtn, which is a partly pre-trained encoder."""


LABEL_LOSSES = ("pose", "expression", "warp_source", "warp_driver")
"""The losses that need no image. If only these are on, no image is rendered, and training is several times faster."""


PAINTED_FLOOR = 0.05
"""Added to the copied image's error in the weight of the "painted" loss, so that no pixel's weight is 0."""


class PairStage(TrainingStage[BaseModel, B, PairBatch], Generic[B]):
    """G_base and its losses on pairs: the phase "generator", and with adversarial losses "discriminator".

    Subclasses define the batch of a step, `B`, and which part of it is pairs.

    Args:
        config: config of the run.
        expression_names: names of the labels that the expression readout predicts.
        init: model to start from; it may differ in `FRESH_PARTS` only. None: random weights.

    Raises:
        WeightsError: `init` does not fit the config's model.
    """

    file_name, validation_count = "base.safetensors", 8

    def __init__(
        self, config: TrainBaseConfig, expression_names: tuple[str, ...], init: BaseModel | None = None
    ) -> None:
        super().__init__()
        self.config, self.expression_names = config, expression_names
        self.model = BaseModel(config.model)
        if init is not None:
            start_from(self.model, init)
        self.model.checkpoint_3d = config.run.checkpoint_3d
        if config.optim.spectral_norm:
            for part in SPECTRAL_PARTS:
                if (module := getattr(self.model, part)) is not None:
                    add_spectral_norm(module, standardized=config.optim.spectral_norm_standardized)
        self.readout = nn.Linear(config.model.motion.z, len(expression_names) + 2) if config.loss.expression else None
        self.perceptual = PerceptualTerms(
            config.loss, components=bool(config.loss.component_perceptual), channels_last=config.run.channels_last
        )
        self.component_landmarks = ComponentLandmarkLoss(config.loss) if config.loss.component_landmarks else None
        adversarial = bool(config.loss.adversarial or config.loss.feature_matching)
        self.discriminator = Discriminator(config.discriminator) if adversarial else None
        components = bool(config.loss.component_adversarial or config.loss.component_matching)
        self.component_discriminator = ComponentDiscriminator(config.component_discriminator) if components else None
        later = ("discriminator", "component_discriminator")
        self.phases = ("generator", *(name for name in later if getattr(self, name) is not None))
        self._shown = ShownImages()
        self._shown_components: ComponentCrops | None = None
        self.renders_images = any(name not in LABEL_LOSSES for name in self.weights())

    def weights(self) -> dict[str, float]:
        """The weights of all losses that are on."""
        w = self.config.loss
        weights = {
            "reconstruction": w.reconstruction,
            "adversarial": w.adversarial,
            "feature_matching": w.feature_matching,
            "discriminator": 1.0 if self.discriminator is not None else 0.0,
            "component_adversarial": w.component_adversarial,
            "component_matching": w.component_matching,
            "component_perceptual": w.component_perceptual,
            "component_landmarks": w.component_landmarks,
            "component_discriminator": 1.0 if self.component_discriminator is not None else 0.0,
            "contrastive": w.contrastive,
            "matte": w.matte,
            "pose": w.pose,
            "expression": w.expression,
            "warp_source": w.warp,
            "warp_driver": w.warp,
            "surface": w.surface,
            "copied": w.copied,
            "painted": w.painted,
            "flow": w.flow,
            "landmarks": w.landmarks,
        }
        return {name: weight for name, weight in weights.items() if weight} | self.perceptual.weights

    def pair_losses(self, phase: str, batch: PairBatch, step: int, generator: torch.Generator) -> Losses:
        """The losses of one phase, as `forward`; discriminators receive the images of the preceding "generator"."""
        if phase != "generator":
            return {phase: self._judge(phase)}
        if self.config.data.flip:
            batch = batch.mirror_half(generator, self.expression_names)
        views = self._views(batch, generator)
        motion, pose_error = self.motions(batch, views)
        count = len(views.source)
        source, driver = motion[slice(0, count)], motion[slice(count, None)]
        if not self.renders_images:
            fields = self.model.displacements(views.source, source.expression, driver.expression)
            return self._label_losses(batch, fields, motion.expression, pose_error)
        identity = self.model.encode(views.source, source)
        contrasts = self.config.loss.contrastive > 0 and step % self.config.loss.contrastive_every == 0
        if contrasts and len(views.source) * ranks() < 2:
            raise TrainingError(
                "the contrastive loss compares with another sample of the same part, and parts have one sample",
                fix="Raise optim.batch_size to two per part, or set loss.contrastive=0.",
            )
        output, crossed = self._generate(identity, driver, contrasts)
        losses = self._image_losses(batch, output, views, generator)
        fields = identity.displacement, output.displacement
        losses |= self._label_losses(batch, fields, motion.expression, pose_error)
        if contrasts:
            losses["contrastive"] = self._contrastive(batch, output, crossed, driver, views)
        return losses

    def sample(self, model: BaseModel, batch: PairBatch) -> tuple[Tensor, dict[str, float]]:
        """Rows of source, driver, prediction as at inference, and target; PSNR (dB) and head-pose error (degrees)."""
        views = self._views(batch, torch.Generator().manual_seed(0))
        blendshapes = measured_blendshapes([batch.source, batch.target], model.config.motion.blendshapes)
        motion = infer_motion(model, torch.cat([views.source_full, views.driver]), None, blendshapes)
        count = len(views.source)
        identity = model.encode(views.source, motion[slice(0, count)])
        output = model.render(identity, motion[slice(count, None)])
        prediction = shown(output, views).float()
        angle = geodesic_distance(motion.pose.rotation[count:], batch.target.rotation)
        numbers = {
            "psnr": psnr_of(float(F.mse_loss(prediction, views.target))),
            "pose_degrees": float(torch.rad2deg(angle).mean()),
        }
        pictures = (
            shrink(views.source, prediction.shape[-1]),
            shrink(views.driver, prediction.shape[-1]),
            prediction,
            views.target,
        )
        rows = [torch.cat(list(x), 2) for x in pictures]
        return torch.cat(rows, 1), numbers

    def save(self, path: Path, model: BaseModel, *, step: int) -> None:
        """Write the averaged model in float16."""
        save_base(path, model, notes={"steps": str(step), "recipe": self.config.model.name})

    def _views(self, batch: PairBatch, generator: torch.Generator) -> Views:
        return make_views(batch, self.config, generator)

    def motions(self, batch: PairBatch, views: Views) -> tuple[Motion, Tensor]:
        """The motions of all sources, then of all drivers (2 B), and the head-pose network's loss (see `_poses`)."""
        pose, error = self._poses(batch, views)
        images = torch.cat([views.source_full, views.driver_augmented])
        blendshapes = measured_blendshapes([batch.source, batch.target], self.config.model.motion.blendshapes)
        return infer_motion(self.model, images, pose, blendshapes), error

    def _poses(self, batch: PairBatch, views: Views) -> tuple[Pose, Tensor]:
        """Head poses of sources, then of drivers (2 B), and the head-pose network's loss (0 if it is not used).

        The head-pose network receives less degraded drivers than the expression network.
        """
        labels = Pose.cat([batch.source.pose, batch.target.pose])
        error = labels.scale.new_zeros(())
        predicted = labels
        if self.config.loss.pose or not self.config.run.teacher_pose:
            predicted = self.model.motion.encode_pose(torch.cat([views.source_full, views.driver]))
            error = pose_loss(predicted, labels)
        return labels if self.config.run.teacher_pose else predicted.detach(), error

    def _generate(self, identity: Identity, motion: Motion, contrasts: bool) -> tuple[Output, Output | None]:
        """Render x_s->d, and with `contrasts` also x_s*->d, in one pass; s* is the previous source in the batch."""
        if not contrasts:
            return self.model.render(identity, motion), None
        out = self.model.render(with_previous(identity), Motion.cat([motion, motion]))
        return out[: len(motion)], out[len(motion) :]

    def _image_losses(self, batch: PairBatch, output: Output, views: Views, generator: torch.Generator) -> Losses:
        w, losses = self.config.loss, {}
        prediction = shown(output, views)
        weight = self._emphasis(batch, prediction.shape[-1]) if w.reconstruction_emphasis else None
        if w.reconstruction:
            losses["reconstruction"] = masked_l1(prediction, views.target, weight)
        if w.matte and output.alpha is not None:
            losses["matte"] = F.l1_loss(output.alpha, views.target_matte)
        pose = batch.target.pose
        losses |= self.perceptual(prediction, views.target, pose)
        if self.discriminator is not None:
            self._shown.keep(prediction, views.target)
            losses |= self._switched_on(generator_terms(self.discriminator, prediction, views.target))
        if w.component_perceptual or self.component_discriminator is not None:
            losses |= self._component_losses(ComponentCrops.cut(prediction, views.target, pose))
        if self.component_landmarks is not None:
            losses["component_landmarks"] = self.component_landmarks(prediction, views.target, pose)
        if output.view is not None:
            losses |= self._copy_losses(batch, output.view, views, weight, generator)
        return losses

    def _emphasis(self, batch: PairBatch, size: int) -> Tensor:
        """Pixel weights (B, 1, size, size): from the target's surface map if it has one, else from its head pose."""
        valid, emphasis = batch.target.valid, self.config.loss.reconstruction_emphasis
        known = feature_weight(batch.target.coords, valid, size, emphasis=emphasis)
        posed = feature_map(batch.target.pose, size, emphasis=emphasis, eyes=EYES_TO_MOUTH)
        return torch.where(valid.flatten(1).any(1)[:, None, None, None], known, posed)

    def _copy_losses(
        self, batch: PairBatch, view: SourceView, views: Views, weight: Tensor | None, generator: torch.Generator
    ) -> Losses:
        """The losses of the source skip: of the copied image, the painted image, the depth and the flow."""
        w, losses = self.config.loss, {}
        shown = views.target_matte if weight is None else views.target_matte * weight
        if w.copied:
            losses["copied"] = masked_l1(view.image, views.target, views.target_matte)
        if w.painted:
            missed = (view.image.detach() - views.target).abs().mean(1, keepdim=True)
            losses["painted"] = masked_l1(view.painted, views.target, shown * (PAINTED_FLOOR + missed))
        if w.surface:
            losses["surface"] = surface_loss(view.depth, batch.target.coords, batch.target.valid)
        if w.flow:
            source, target = ((frame.coords, frame.valid) for frame in (batch.source, batch.target))
            losses["flow"] = flow_loss(view.flow.direct, source, target, generator)
        if w.landmarks:
            marks = [visible_irises(frame.landmarks) for frame in (batch.source, batch.target)]
            losses["landmarks"] = landmark_loss(view.flow.direct, marks[0], marks[1])
        return losses

    def _component_losses(self, crops: ComponentCrops) -> Losses:
        """The losses on crops of eyes and mouth; gradients flow through their discriminators into the prediction."""
        losses: Losses = {}
        if self.config.loss.component_perceptual:
            losses["component_perceptual"] = self.perceptual.components(crops)
        if self.component_discriminator is not None:
            self._shown_components = crops.detach()
            losses |= self._switched_on(self.component_discriminator.generator_terms(crops))
        return losses

    def _switched_on(self, losses: Losses) -> Losses:
        return {name: loss for name, loss in losses.items() if getattr(self.config.loss, name)}

    def _judge(self, phase: str) -> Tensor:
        if phase == "component_discriminator":
            crops, self._shown_components = self._shown_components, None
            assert self.component_discriminator is not None and crops is not None, _ORDER
            return self.component_discriminator.judge(crops)
        return self._shown.judge(self.discriminator)

    def _label_losses(
        self, batch: PairBatch, fields: tuple[Tensor, Tensor], expression: Expression, pose_error: Tensor
    ) -> Losses:
        """The losses against the clips' labels; `fields` are the displacements of W_s-> and W_->d."""
        w, losses = self.config.loss, {}
        if w.pose:
            losses["pose"] = pose_error
        if self.readout is not None:
            labels = torch.cat([batch.source.readout, batch.target.readout])
            weights = readout_weights(self.expression_names).to(expression.z)
            losses["expression"] = readout_loss(self.readout(expression.z), labels, weights)
        if w.warp:
            m = self.config.model
            size = (m.volume_depth, m.volume_size, m.volume_size)
            frames = batch.source, batch.target
            for side, frame, field in zip(("source", "driver"), frames, fields, strict=True):
                losses[f"warp_{side}"] = warp_loss(field, frame.pose, frame.coords, frame.valid, size, side=side)
        return losses

    def _contrastive(
        self, batch: PairBatch, output: Output, crossed: Output | None, driver: Motion, views: Views
    ) -> Tensor:
        assert crossed is not None
        images = torch.cat([shown(output, views), shown(crossed, views)])
        z = infer_motion(self.model, images, Pose.cat([driver.pose, driver.pose])).expression.z
        z_driver = driver.expression.z
        if self.model.motion.correction is not None:  # predictions have no measured blendshapes: compare E_mtn's own z
            z_driver = infer_motion(self.model, views.driver_augmented, driver.pose).expression.z
        z_other = previous_sample(z_driver)
        other = previous_sample(batch.person) != batch.person  # eq. 7: negatives are other people
        share = share_of(other.sum())
        if not other.any():  # a small micro-batch may have one person only: no negatives
            return (z.sum() + z_other.sum()) * 0
        w = self.config.loss
        return share * contrastive_loss(
            torch.stack([half[other] for half in z.chunk(2)]),
            z_driver[other],
            z_other[other],
            scale=w.contrastive_scale,
            margin=w.contrastive_margin,
        )


class BaseStage(PairStage[PairBatch]):
    """The stage of `train base`."""

    def forward(self, phase: str, batch: PairBatch, step: int, generator: torch.Generator) -> Losses:
        """See `TrainingStage.forward`."""
        return self.pair_losses(phase, batch, step, generator)


S = TypeVar("S", bound=PairStage[PairBatch] | PairStage[JointBatch])


def train_base(
    config: TrainBaseConfig,
    out: Path,
    *,
    resume: bool = False,
    init: Path | None = None,
    head_pose: Path | None = None,
    motion: Path | None = None,
) -> int:
    """Train the base model on shards; returns the step reached.

    `init`, `head_pose` and `motion` are not read when resuming: the checkpoints already contain these weights.

    Args:
        config: config of the run; `config.data.path` is the folder of training shards.
        out: the run folder.
        resume: continue the run in `out`.
        init: start from these weights (a .safetensors file of the same model) instead of random ones.
        head_pose: start the head-pose network from these weights (`megaportraits train head-pose`).
        motion: start E_mtn from these weights (`megaportraits train motion`).

    Raises:
        TrainingError: the head-pose network would be untrained (`require_head_pose`), or as for `fit`.
        DataError: the shards cannot be read.
        WeightsError: weights cannot be read, or do not fit the config's model.
    """
    if not resume and init is head_pose is motion is None:
        require_head_pose(config, None)  # before the data are opened, which can take long
    with run_pairs(config, BaseStage.validation_count) as (training, validation):
        names = training.expression_names
        stage = begin(BaseStage, config, names, resume=resume, init=init, head_pose=head_pose, motion=motion)
        return fit(stage, training, validation, config, out, resume=resume)


def begin(
    kind: type[S],
    config: TrainBaseConfig,
    expression_names: tuple[str, ...],
    *,
    resume: bool,
    init: Path | None,
    head_pose: Path | None,
    motion: Path | None,
) -> S:
    """Make the stage of a run; arguments and errors as for `train_base`."""
    torch.manual_seed(config.run.seed)  # the initial weights are part of the recipe
    start = load_base(init) if init is not None and not resume else None
    stage = kind(config, expression_names, start)
    if resume:
        return stage
    if motion is not None:
        load_motion(motion, stage.model)
    if head_pose is not None:
        load_head_pose(head_pose, stage.model)
    require_head_pose(config, stage.model)
    return stage
