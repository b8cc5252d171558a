"""The one-stage variants of B.2: one model renders the large image and is trained with both objectives.

The paper: "We [...] tried freezing a pre-trained encoder and fine-tuning a decoder with an additional upsampling block,
combining both of the objectives and with some weighting coefficient." L_base compares images at the size of the videos,
L_enh at the size of the photographs, which is twice as large.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from megaportraits.config import TrainOneStageConfig
from megaportraits.data.batches import JointBatch, PairBatch, PhotoBatch
from megaportraits.data.joint import JointDataset
from megaportraits.data.photos import PhotoDataset
from megaportraits.errors import TrainingError
from megaportraits.losses.adversarial import generator_terms
from megaportraits.losses.foreground import masked_l1
from megaportraits.models.base import BaseModel
from megaportraits.models.discriminator import Discriminator
from megaportraits.ops.compositing import composite
from megaportraits.ops.resample import shrink
from megaportraits.training.base import PairStage, begin
from megaportraits.training.loop import fit
from megaportraits.training.pairs import run_pairs
from megaportraits.training.photos import drive_views, photo_views
from megaportraits.training.shown import ShownImages
from megaportraits.training.stage import Losses
from megaportraits.training.start import require_head_pose
from megaportraits.training.views import Views

JUDGE = "photo_discriminator"


class OneStage(PairStage[JointBatch]):
    """`PairStage` on pairs of frames, and the enhancer's objective on photographs, with its own discriminator."""

    def __init__(
        self, config: TrainOneStageConfig, expression_names: tuple[str, ...], init: BaseModel | None = None
    ) -> None:
        self.photos = config.photos  # before super().__init__, which calls weights()
        super().__init__(config, expression_names, init)
        self.photo_discriminator = Discriminator(config.discriminator) if config.photos.adversarials else None
        if self.photo_discriminator is not None:
            self.phases = (*self.phases, JUDGE)
        self._shown_photographs = ShownImages()

    def weights(self) -> dict[str, float]:
        """The weights of L_base, and those of L_enh times `photos.weight`."""
        photos = self.photos
        names = ("reconstruction", "adversarial", "feature_matching", "cross_adversarial")
        weights = {f"photo_{name}": photos.weight * getattr(photos, name) for name in names}
        weights[JUDGE] = 1.0 if photos.adversarials else 0.0
        return super().weights() | {name: weight for name, weight in weights.items() if weight}

    def forward(self, phase: str, batch: JointBatch, step: int, generator: torch.Generator) -> Losses:
        """See `TrainingStage.forward`."""
        if phase == JUDGE:
            return {JUDGE: self._shown_photographs.judge(self.photo_discriminator)}
        losses = self.pair_losses(phase, batch.pairs, step, generator)
        return losses | self._photo_losses(batch.photos, generator) if phase == "generator" else losses

    def _views(self, batch: PairBatch, generator: torch.Generator) -> Views:
        """Views with targets at the coarse image's size: videos have no higher resolution."""
        views, size = super()._views(batch, generator), self.config.model.coarse_size
        return replace(views, target=shrink(views.target, size), target_matte=shrink(views.target_matte, size))

    def _photo_losses(self, batch: PhotoBatch, generator: torch.Generator) -> Losses:
        """Eq. 10 without the cycle loss: photographs driven by their own second view, and by other people."""
        if self.config.data.flip:
            batch = batch.mirror_half(generator)
        background = self.config.model.predict_background
        views = photo_views(batch, self.photos.data, False, generator, background=background)
        seen = composite(views.image["source"], views.matte["source"], views.source_color)
        cross = self.photos.cross_adversarial > 0
        output = drive_views(self.model, batch, seen, views.image, cross=cross)
        roles = ("target", "driver") if cross else ("target",)
        drawn = output.image * torch.cat([views.matte[role] for role in roles])  # foreground only (3.1)
        own, crossed = drawn[: len(seen)], drawn[len(seen) :]
        losses = {"photo_reconstruction": masked_l1(own, views.target)}
        if self.photo_discriminator is not None:
            losses |= self._photo_adversarial(own, crossed, views.target)
        return {name: loss for name, loss in losses.items() if name in self.weights()}

    def _photo_adversarial(self, own: Tensor, crossed: Tensor, truth: Tensor) -> Losses:
        assert self.photo_discriminator is not None
        self._shown_photographs.keep(torch.cat([own, crossed]), truth)
        terms = generator_terms(self.photo_discriminator, own, truth, crossed)
        return {f"photo_{name}": loss for name, loss in terms.items()}


def train_one_stage(
    config: TrainOneStageConfig,
    out: Path,
    *,
    resume: bool = False,
    init: Path | None = None,
    head_pose: Path | None = None,
) -> int:
    """Train one model on videos and photographs; returns the step reached. Arguments as for `train_base`.

    `config.photos.data.path` is the folder with shards of photographs. `out/base.safetensors` is a base model that
    renders the large size.

    Raises:
        TrainingError: parts are frozen and there are no weights to start from; otherwise as for `train_base`.
    """
    if config.optim.parts and init is None and not resume:
        raise TrainingError(
            f"optim.parts lets only {', '.join(config.optim.parts)} learn, and the rest would stay random",
            fix="Give trained weights with --init, or train all with --set 'optim.parts=[]'.",
        )
    if not resume and init is head_pose is None:
        require_head_pose(config, None)
    with run_pairs(config, OneStage.validation_count) as (pairs, validation):
        data, size = config.photos.data, config.model.image_size
        photos = PhotoDataset(
            data.path,
            length=len(pairs),
            size=size,
            min_size=data.min_size or round(0.75 * size),
            rotation=data.rotation,
            shift=data.shift,
            zoom=data.zoom,
            seed=config.run.seed,
        )
        names = pairs.expression_names
        stage = begin(OneStage, config, names, resume=resume, init=init, head_pose=head_pose, motion=None)
        return fit(stage, JointDataset(pairs, photos), validation, config, out, resume=resume)
