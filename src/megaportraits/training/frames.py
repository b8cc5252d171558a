"""Augmentation for the stages that train on single frames: backgrounds, jitter, imprecise crops."""

from __future__ import annotations

import torch
from torch import Tensor

from megaportraits.data.augment import color_jitter, degrade
from megaportraits.data.batches import FRAME_BATCH, crop, mirror
from megaportraits.losses.foreground import composite
from megaportraits.ops.warping import Pose
from megaportraits.training.views import random_background

Batch = dict[str, Tensor]


def frame_pose(batch: Batch) -> Pose:
    """The head-pose labels of a batch of `data.frames`."""
    return Pose(batch["rotation"], batch["translation"], batch["scale"])


def augment_frames(
    batch: Batch,
    generator: torch.Generator,
    *,
    mirrors: bool,
    jitter: float = 0.7,
    degrades: bool = True,
    shift: float = 0.06,
    zoom: float = 0.1,
) -> tuple[Tensor, Pose, Batch]:
    """Augment a batch: half of the images get another background, and all are cropped at random.

    Args:
        batch: a batch of `data.frames`.
        generator: on the CPU.
        mirrors: whether to mirror half of the samples.
        jitter: strength of the colour jitter.
        degrades: whether to add blur and noise to half of the images.
        shift: crops are shifted by up to this many crop units, like the imprecise crops of a tracker.
        zoom: crops are scaled by up to exp(+-zoom). With shift 0 and zoom 0 nothing is resampled.

    Returns:
        The images (B, 3, S, S) in [0, 1], their head poses, and the batch, with all labels adapted to the crops.
    """
    count = len(batch["scale"])

    def draw(*shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator) * 2 - 1).to(batch["scale"].device)

    if mirrors:
        batch = mirror(batch, FRAME_BATCH, draw() < 0)
    image, matte = batch["image"].float() / 255, batch["matte"].float() / 255
    replaced = composite(image, matte, random_background(image, generator))
    image = torch.where(draw()[:, None, None, None] < 0, replaced, image)
    if degrades:
        image = degrade(image, generator=generator)
    image = color_jitter(image, strength=jitter, generator=generator)
    batch = {key: value for key, value in batch.items() if key != "matte"} | {"image": image}
    if shift or zoom:
        batch = crop(batch, FRAME_BATCH, draw(2) * shift, (draw() * zoom).exp())
    return batch["image"], frame_pose(batch), batch
