"""A batch of photographs as the second stage sees it: what the base model makes of it, and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.config import EnhancerDataConfig
from megaportraits.data.augment import color_jitter, random_warp
from megaportraits.data.photos import ROLES
from megaportraits.losses.foreground import composite
from megaportraits.models.base import BaseModel, Identity, Output
from megaportraits.models.enhancer import move_source, picture_of
from megaportraits.models.motion import Motion
from megaportraits.ops.color import random_colors
from megaportraits.ops.warping import Pose
from megaportraits.training.views import label_pose

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class PhotoViews:
    """A batch of `data.photos` in [0, 1], at the enhanced size N and the base model's S = N / 2.

    Attributes:
        image, matte: (B, 3, N, N) and (B, 1, N, N) of every role.
        color: (B, 3, 1, 1), the flat colour that results and truth are compared over.
        source_color: (B, 3, 1, 1), what the base model sees behind sources.
    """

    image: dict[str, Tensor]
    matte: dict[str, Tensor]
    color: Tensor
    source_color: Tensor

    @property
    def target(self) -> Tensor:
        """The truth over the colour, (B, 3, N, N)."""
        return composite(self.image["target"], self.matte["target"], self.color)


@dataclass(frozen=True)
class Driven:
    """What the enhancer gets: pictures (B, 3 or 4, S, S), and the source's moved pixels (B, 3 or 4, N, N) or None."""

    picture: Tensor
    source: Tensor | None

    def __getitem__(self, index: slice) -> Driven:
        return Driven(self.picture[index], None if self.source is None else self.source[index])


def photo_views(batch: Batch, config: EnhancerDataConfig, mattes: bool, generator: torch.Generator) -> PhotoViews:
    """Colours jittered alike for both views of a photograph; flat colours drawn.

    Without `mattes` the whole pictures count and the colours are black, as in the paper.
    """
    image = {role: batch[f"{role}_image"].float() / 255 for role in ROLES}
    matte = {role: batch[f"{role}_matte"].float() / 255 for role in ROLES}
    count, device = len(image["source"]), image["source"].device
    if config.jitter:
        pair = torch.cat([image["source"], image["target"]])
        pair = color_jitter(pair, strength=config.jitter, generator=generator, repeat=2)
        image["source"], image["target"] = pair.chunk(2)
    if not mattes:
        black = torch.zeros(count, 3, 1, 1, device=device)
        return PhotoViews(image, matte, black, black)
    colors = random_colors(count, generator, device)
    return PhotoViews(image, matte, colors, random_colors(count, generator, device, keys=1.0))


def drive_base(base: BaseModel, batch: Batch, views: PhotoViews, *, cross: bool) -> tuple[Identity, Output]:
    """The frozen base model on small pictures: every source by its own second view, then (`cross`) by a stranger.

    Poses are the labelled ones, as at inference by landmarks.

    Returns:
        The identities (B), and the output for B or 2 B drivers.
    """
    small = {role: F.avg_pool2d(image, 2) for role, image in views.image.items()}
    seen = composite(small["source"], F.avg_pool2d(views.matte["source"], 2), views.source_color)
    drivers = ("target", "driver") if cross else ("target",)
    pose = Pose.cat([label_pose(batch, role) for role in ("source", *drivers)])
    images = torch.cat([seen, *(small[role] for role in drivers)])
    count = len(seen)
    with torch.no_grad():
        motion = Motion(pose, base.motion.encode_expression(images, pose).float())
        identity = base.encode(seen, motion[slice(0, count)])
        repeated = identity[torch.arange(len(images) - count) % count]
        return identity, base.render(repeated, motion[slice(count, None)])


def driven_pictures(
    output: Output, views: PhotoViews, config: EnhancerDataConfig, skip: bool, generator: torch.Generator | None
) -> Driven:
    """What the base made as pictures, and with `skip` the sources' full-size pixels moved along its flow.

    Args:
        output: of `drive_base`.
        views: of the same batch.
        config: how much the moved pixels are disturbed.
        skip: the enhancer's `source_skip`.
        generator: for that; None disturbs nothing.
    """
    picture = picture_of(output)
    if not skip:
        return Driven(picture, None)
    assert output.view is not None, "checked against the base model's config"
    source, matte = views.image["source"], views.matte["source"]
    source = torch.cat([source * matte, matte], 1) if picture.shape[1] == 4 else source
    if generator is not None and config.source_drop:
        soft = F.interpolate(F.avg_pool2d(source, 2), scale_factor=2, mode="bilinear", align_corners=False)
        dropped = torch.rand(len(source), 1, 1, 1, generator=generator) < config.source_drop
        source = torch.where(dropped.to(source.device), soft, source)
    moved = move_source(source.repeat(len(picture) // len(source), 1, 1, 1), output.view.flow)
    if generator is not None and config.source_jitter:
        moved = random_warp(moved, strength=config.source_jitter, generator=generator)
    return Driven(picture, moved)
