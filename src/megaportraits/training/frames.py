"""What the stages on single frames share: backgrounds, jitter, and a crop that is never quite where it should be."""

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
    """The labelled poses of a batch of `data.frames`."""
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
    """Augmented images (B, 3, S, S) in [0, 1], their poses, and the batch with the labels that follow.

    Half of the images get another background. Crops are shifted by `shift` crop units and scaled by exp(+-zoom), as a
    tracker's crops are; the poses follow exactly.

    Args:
        batch: of `data.frames`.
        generator: on the CPU.
        mirrors: flip half of the samples.
        jitter: strength of the colour jitter.
        degrades: blur and noise for half of the images.
        shift: see above.
        zoom: see above; with shift 0 and zoom 0 nothing is resampled.
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
