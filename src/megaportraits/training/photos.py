"""A batch of photographs as the second stage sees it: what the base model makes of it, and the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.config import EnhancerDataConfig
from megaportraits.data.augment import color_jitter
from megaportraits.data.photos import ROLES
from megaportraits.losses.foreground import composite
from megaportraits.models.base import BaseModel
from megaportraits.models.enhancer import fine_picture, move_source, over, picture_of, start_of
from megaportraits.models.identity import Output
from megaportraits.models.motion import infer_motion
from megaportraits.ops.color import random_colors
from megaportraits.ops.warping import Pose
from megaportraits.training.readout import measured_scores
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
    """What the enhancer gets: pictures (B, 3 or 4, S, S), and with the source's detail (B, 3 or 4, N, N) or None."""

    picture: Tensor
    fine: Tensor | None


def photo_views(
    batch: Batch, config: EnhancerDataConfig, mattes: bool, generator: torch.Generator, *, background: bool = False
) -> PhotoViews:
    """Colours jittered alike for both views of a photograph; flat colours drawn.

    Args:
        batch: of `data.photos`.
        config: see there.
        mattes: the enhancer writes or keeps an alpha: random colours; else black, as in the paper.
        generator: on the CPU.
        background: pictures keep their background, for base models with `predict_background`: all mattes are 1.
    """
    image = {role: batch[f"{role}_image"].float() / 255 for role in ROLES}
    matte = {role: batch[f"{role}_matte"].float() / 255 for role in ROLES}
    if background:
        matte = {role: torch.ones_like(value) for role, value in matte.items()}
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


def drive_base(base: BaseModel, batch: Batch, views: PhotoViews, *, cross: bool) -> Output:
    """The frozen base model on small pictures: every source by its own second view, then (`cross`) by a stranger.

    Poses and blendshapes are the labelled ones, as at inference by landmarks.

    Returns:
        Images of B or 2 B drivers.
    """
    small = {role: F.avg_pool2d(image, 2) for role, image in views.image.items()}
    seen = composite(small["source"], F.avg_pool2d(views.matte["source"], 2), views.source_color)
    with torch.no_grad():
        return drive_views(base, batch, seen, small, cross=cross)


def drive_views(model: BaseModel, batch: Batch, seen: Tensor, images: dict[str, Tensor], *, cross: bool) -> Output:
    """A model on photographs: every source by its own second view, then (`cross`) by a stranger.

    Args:
        model: see above.
        batch: of `data.photos`, for poses and blendshapes.
        seen: (B, 3, S, S), the sources as the model shall see them.
        images: (B, 3, S, S) of every role.

    Returns:
        Images of B or 2 B drivers.
    """
    drivers = ("target", "driver") if cross else ("target",)
    pose = Pose.cat([label_pose(batch, role) for role in ("source", *drivers)])
    views = torch.cat([seen, *(images[role] for role in drivers)])
    count = len(seen)
    blendshapes = measured_scores(batch, model.config.motion.blendshapes, ("source", *drivers))
    motion = infer_motion(model, views, pose, blendshapes)
    identity = model.encode(seen, motion[slice(0, count)])
    repeated = identity[torch.arange(len(views) - count) % count]
    return model.render(repeated, motion[slice(count, None)])


def driven_pictures(
    output: Output, views: PhotoViews, *, skip: bool, drop: float = 0.0, generator: torch.Generator | None = None
) -> Driven:
    """What the base made as pictures, and with `skip` also with the sources' own detail.

    Without an alpha the pictures are cut out over black by the matte of the view that drove them: the background of
    such a base model was never supervised (3.1), and neither the enhancer nor the cycle (eq. 9) may see it.

    Args:
        output: of `drive_base`.
        views: of the same batch.
        skip: the enhancer's `source_skip`.
        drop: see `EnhancerDataConfig.source_drop`.
        generator: for that, on the CPU.
    """
    picture = picture_of(output)
    if picture.shape[1] == 3:
        drivers = ("target", "driver")[: len(picture) // len(views.color)]
        picture = picture * torch.cat([F.avg_pool2d(views.matte[role], 2) for role in drivers])
    if not skip:
        return Driven(picture, None)
    assert output.view is not None, "checked against the base model's config"
    source = views.image["source"]
    if picture.shape[1] == 4:
        source = torch.cat([source, views.matte["source"]], 1)
    if generator is not None and drop:
        kept = output.view.copied * _random_regions(output.view.copied, drop, generator)
        output = replace(output, view=replace(output.view, copied=kept))
    return Driven(picture, fine_picture(output, source.repeat(len(picture) // len(source), 1, 1, 1)))


def aligned_views(output: Output, views: PhotoViews) -> PhotoViews:
    """The same views, but as target the source moved as the base model moved it: it meets the images to the pixel."""
    assert output.view is not None, "checked against the base model's config"
    source = torch.cat([views.image["source"], views.matte["source"]], 1)
    moved = move_source(source, output.view.flow[: len(source)])
    image, matte = {**views.image, "target": moved[:, :3]}, {**views.matte, "target": moved[:, 3:]}
    return replace(views, image=image, matte=matte)


def truth_of(views: PhotoViews, driven: Driven, *, alpha_stays: bool) -> Tensor:
    """What the supervised part compares results with, over the views' colour, (B, 3, N, N).

    Args:
        views: whose target is the truth.
        driven: what the enhancer got; its first B pictures are those of the target.
        alpha_stays: the enhancer leaves alpha as it came (its residual form, with a matte). Then the truth has that
            alpha, too, and where it shows nobody the colours that came: no colour can mend an outline.
    """
    if not alpha_stays:
        return views.target
    truth, matte = views.image["target"], views.matte["target"]
    start = start_of(driven.picture, driven.fine)[: len(truth)]
    reachable = composite(truth, start[:, 3:], views.color)
    return composite(reachable, matte, over(start, views.color))


def _random_regions(like: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Masks (B, 1, S, S) in [0, 1]: 1 everywhere, but for `share` of the samples 0 in smooth random regions."""
    count, size = len(like), like.shape[-1]
    noise = torch.randn(count, 1, 6, 6, generator=generator) + torch.randn(count, 1, 1, 1, generator=generator)
    field = F.interpolate(noise, (size, size), mode="bicubic", align_corners=False)
    whole = torch.rand(count, 1, 1, 1, generator=generator) >= share
    return torch.where(whole, torch.ones(()), (field * 8).sigmoid()).to(like)
