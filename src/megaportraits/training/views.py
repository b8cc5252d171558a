"""Prepares batches of pairs for the networks: compositing, colour jitter, degradation of drivers (B.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.config import TrainBaseConfig, TrainBaselineConfig
from megaportraits.data.augment import color_jitter, degrade, random_warp
from megaportraits.data.batches import PairBatch
from megaportraits.data.thin_plate import thin_plate_warp
from megaportraits.models.identity import Output
from megaportraits.ops.color import random_colors
from megaportraits.ops.compositing import composite
from megaportraits.ops.resample import shrink
from megaportraits.ops.warping import Pose

_WARP = 0.05
"""Standard deviation of the driver's warp in crop units: 8 mm on the head."""


@dataclass(frozen=True)
class Views:
    """Inputs and targets of the generators (B, 3, S, S), and inputs of the motion encoder at full size.

    Attributes:
        source: over one flat colour, at the training size S.
        target: over another flat colour, at the training size S.
        target_matte: (B, 1, S, S).
        target_color: (B, 3, 1, 1), the flat colour of `target`.
        source_full: the source at full size for the motion encoder: small training sizes lose lids and lips.
        driver: over its own background, mildly degraded, for the head-pose network.
        driver_augmented: severely degraded, for the expression network.
    """

    source: Tensor
    target: Tensor
    target_matte: Tensor
    target_color: Tensor
    source_full: Tensor
    driver: Tensor
    driver_augmented: Tensor


def make_views(batch: PairBatch, config: TrainBaseConfig | TrainBaselineConfig, generator: torch.Generator) -> Views:
    """Composite and augment a batch of `data.pairs`.

    Source and target share their colour jitter. There are two versions of the driver: a mildly augmented one for the
    head-pose network, and a severely augmented one for the expression network.
    """
    roles = {"source": batch.source, "target": batch.target, "driver": batch.driver}
    image = {role: image.image.float() / 255 for role, image in roles.items()}
    matte = {role: image.matte.float() / 255 for role, image in roles.items()}
    if config.model.predict_background:
        matte = {k: torch.ones_like(m) for k, m in matte.items()}
    count, device = len(image["source"]), image["source"].device
    pair = color_jitter(torch.cat([image["source"], image["target"]]), strength=0.25, generator=generator, repeat=2)
    image["source"], image["target"] = pair.chunk(2)
    if not config.model.predict_matte:
        source_color = target_color = torch.zeros(count, 3, 1, 1, device=device)
    else:
        source_color = random_colors(count, generator, device, keys=0.5)
        target_color = random_colors(count, generator, device)
    background = random_background(image["target"], generator) if config.data.random_background else target_color
    driver = composite(image["driver"], matte["driver"], background)
    source = composite(image["source"], matte["source"], source_color)
    size = config.model.image_size
    return Views(
        source=shrink(source, size),
        target=shrink(composite(image["target"], matte["target"], target_color), size),
        target_matte=shrink(matte["target"], size),
        target_color=target_color,
        source_full=source,
        driver=color_jitter(degrade(driver, generator=generator), strength=0.5, generator=generator),
        # The driver's head has the target's pose, also when it is another person (`data.pairs`).
        driver_augmented=_augment(driver, batch.target.pose, config, generator),
    )


def _augment(
    driver: Tensor, pose: Pose, config: TrainBaseConfig | TrainBaselineConfig, generator: torch.Generator
) -> Tensor:
    if not config.data.driver_augmentation:
        return driver
    warp = thin_plate_warp if config.data.driver_warp == "thin-plate" else random_warp
    driver = warp(driver, strength=_WARP, generator=generator, pose=pose)
    return color_jitter(degrade(driver, generator=generator), strength=1.0, generator=generator)


def shown(output: Output, views: Views) -> Tensor:
    """Output images (B, 3, S, S) as the losses and E_mtn receive them: the foreground over the target's flat colour.

    If the model has no alpha output, the target's matte replaces it. This also holds for cross-reenacted images, which
    have the same motion. The background of such a model is never supervised and must not reach any loss (3.1).
    """
    image = shrink(output.over(views.target_color), views.target.shape[-1])
    return image if output.alpha is not None else composite(image, views.target_matte, views.target_color)


def random_background(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random backgrounds made from the batch: other images, mirrored, tinted, and blurred by a random amount."""
    other = images.roll(1, 0).flip(3)
    size = images.shape[-1]
    level = int(torch.randint(1, 5, (1,), generator=generator))
    small = F.interpolate(other, (size // 2**level,) * 2, mode="bilinear", antialias=True, align_corners=False)
    soft = F.interpolate(small, (size, size), mode="bilinear", align_corners=False)
    tint = random_colors(len(images), generator, images.device)
    mix = torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
    return soft * (1 - mix) + tint * mix
