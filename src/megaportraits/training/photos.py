"""Prepares batches of photographs for the enhancer: the base model's images and their targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.config import EnhancerDataConfig
from megaportraits.data.augment import color_jitter
from megaportraits.data.batches import PhotoBatch
from megaportraits.models.base import BaseModel
from megaportraits.models.enhancer import fine_picture, move_source, over, picture_of, start_of
from megaportraits.models.identity import Output
from megaportraits.models.motion import infer_motion
from megaportraits.ops.color import random_colors
from megaportraits.ops.compositing import composite
from megaportraits.ops.warping import Pose
from megaportraits.training.readout import measured_blendshapes


@dataclass(frozen=True)
class PhotoViews:
    """A batch of `data.photos` in [0, 1], at the enhancer's size N. The base model's size is S = N / 2.

    Attributes:
        image: for every role, (B, 3, N, N).
        matte: for every role, (B, 1, N, N).
        color: (B, 3, 1, 1), the flat background for the comparison of results with targets.
        source_color: (B, 3, 1, 1), the flat background of the sources for the base model.
    """

    image: dict[str, Tensor]
    matte: dict[str, Tensor]
    color: Tensor
    source_color: Tensor

    @property
    def target(self) -> Tensor:
        """The target over `color`, (B, 3, N, N)."""
        return composite(self.image["target"], self.matte["target"], self.color)


@dataclass(frozen=True)
class Driven:
    """The enhancer's input.

    Attributes:
        picture: the base model's images, (B, 3 or 4, S, S).
        fine: the same with the source's detail, (B, 3 or 4, N, N), or None.
    """

    picture: Tensor
    fine: Tensor | None


def photo_views(
    batch: PhotoBatch, config: EnhancerDataConfig, mattes: bool, generator: torch.Generator, *, background: bool = False
) -> PhotoViews:
    """Apply colour jitter, equal for both views of a photograph, and draw flat background colours.

    Args:
        batch: a batch of `data.photos`.
        config: the jitter's strength.
        mattes: whether the enhancer outputs an alpha: then the background colours are random, else black as in the
            paper.
        generator: on the CPU.
        background: whether images keep their background, for base models with `predict_background`: all mattes are 1.
    """
    roles = {"source": batch.source, "target": batch.target, "driver": batch.driver}
    image = {role: image.image.float() / 255 for role, image in roles.items()}
    matte = {role: image.matte.float() / 255 for role, image in roles.items()}
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


def drive_base(base: BaseModel, batch: PhotoBatch, views: PhotoViews, *, cross: bool) -> Output:
    """Run the frozen base model at its size S. The drivers are the targets, then (`cross`) also the other people.

    Head poses and blendshapes are the labels, which come from landmarks as at inference.

    Returns:
        Outputs for B or 2 B drivers.
    """
    small = {role: F.avg_pool2d(image, 2) for role, image in views.image.items()}
    seen = composite(small["source"], F.avg_pool2d(views.matte["source"], 2), views.source_color)
    with torch.no_grad():
        return drive_views(base, batch, seen, small, cross=cross)


def drive_views(model: BaseModel, batch: PhotoBatch, seen: Tensor, images: dict[str, Tensor], *, cross: bool) -> Output:
    """Run a model on photographs. The drivers are the targets, then (`cross`) also the other people.

    Args:
        model: the model to run.
        batch: a batch of `data.photos`, for head poses and blendshapes.
        seen: (B, 3, S, S), the sources as the model receives them.
        images: for every role, (B, 3, S, S).
        cross: whether other people drive the sources, too.

    Returns:
        Outputs for B or 2 B drivers.
    """
    drivers = ("target", "driver") if cross else ("target",)
    measured = [batch.source, batch.target, batch.driver] if cross else [batch.source, batch.target]
    pose = Pose.cat([image.pose for image in measured])
    views = torch.cat([seen, *(images[role] for role in drivers)])
    count = len(seen)
    blendshapes = measured_blendshapes(measured, model.config.motion.blendshapes)
    motion = infer_motion(model, views, pose, blendshapes)
    identity = model.encode(seen, motion[slice(0, count)])
    repeated = identity[torch.arange(len(views) - count) % count]
    return model.render(repeated, motion[slice(count, None)])


def driven_pictures(
    output: Output, views: PhotoViews, *, skip: bool, drop: float = 0.0, generator: torch.Generator | None = None
) -> Driven:
    """The base model's images, and with `skip` also the images with the sources' own detail.

    If the base model has no alpha output, its images are composited over black with the driver's matte: the background
    of such a model was never supervised (3.1), and must reach neither the enhancer nor the cycle loss (eq. 9).

    Args:
        output: the result of `drive_base`.
        views: the views of the same batch.
        skip: the enhancer's `source_skip`.
        drop: see `EnhancerDataConfig.source_drop`.
        generator: for `drop`, on the CPU.
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
    """Replace the target by the source, warped by the base model's flow, so that it matches the images exactly."""
    assert output.view is not None, "checked against the base model's config"
    source = torch.cat([views.image["source"], views.matte["source"]], 1)
    moved = move_source(source, output.view.flow[: len(source)])
    image, matte = {**views.image, "target": moved[:, :3]}, {**views.matte, "target": moved[:, 3:]}
    return replace(views, image=image, matte=matte)


def truth_of(views: PhotoViews, driven: Driven, *, alpha_stays: bool) -> Tensor:
    """The target of the supervised part over the views' colour, (B, 3, N, N).

    Args:
        views: the views whose target is the ground truth.
        driven: the enhancer's input; its first B images are driven by the target.
        alpha_stays: whether the enhancer keeps the alpha of its input (residual form, with a matte). Then the target
            has this alpha, too, and the input's colours where the true matte is 0: changing colours cannot correct a
            wrong outline.
    """
    if not alpha_stays:
        return views.target
    truth, matte = views.image["target"], views.matte["target"]
    start = start_of(driven.picture, driven.fine)[: len(truth)]
    reachable = composite(truth, start[:, 3:], views.color)
    return composite(reachable, matte, over(start, views.color))


def _random_regions(like: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Masks (B, 1, S, S) in [0, 1]. For a fraction `share` of the samples they are 0 in random regions, else 1."""
    count, size = len(like), like.shape[-1]
    noise = torch.randn(count, 1, 6, 6, generator=generator) + torch.randn(count, 1, 1, 1, generator=generator)
    field = F.interpolate(noise, (size, size), mode="bicubic", align_corners=False)
    whole = torch.rand(count, 1, 1, 1, generator=generator) >= share
    return torch.where(whole, torch.ones(()), (field * 8).sigmoid()).to(like)
