"""Augmentation for the stages that train on single frames: backgrounds, jitter, imprecise crops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from megaportraits.config import TrainComponentLandmarksConfig, TrainGazeConfig, TrainHeadPoseConfig
from megaportraits.data.augment import color_jitter, degrade
from megaportraits.data.batches import FrameBatch
from megaportraits.data.frames import FrameDataset
from megaportraits.ops.compositing import composite
from megaportraits.ops.geometry import HEAD_HALF_CM
from megaportraits.ops.warping import Pose
from megaportraits.training.views import random_background

C = TypeVar("C", TrainComponentLandmarksConfig, TrainGazeConfig, TrainHeadPoseConfig)

_VALIDATION_FRAMES = 256


def run_frames(
    config: C, *, labels: Path | None = None, landmarks: bool = False
) -> tuple[C, FrameDataset, FrameDataset | None]:
    """The config with `optim.steps` set from `epochs` where it is 0, the training frames, and those for validation.

    Args:
        config: config of the run.
        labels: see `FrameDataset`; for training only.
        landmarks: see `FrameDataset`.

    Raises:
        DataError: as for `FrameDataset`.
    """
    data, optim = config.data, config.optim
    if not optim.steps:
        frames = len(FrameDataset(data.path, length=0, size=data.size, labels=labels, landmarks=landmarks))
        steps = max(1, config.epochs * frames // optim.batch_size)
        config = config.model_copy(update={"optim": optim.model_copy(update={"steps": steps})})
    length, seed = config.optim.steps * optim.batch_size, config.run.seed
    training = FrameDataset(data.path, length=length, size=data.size, seed=seed, labels=labels, landmarks=landmarks)
    validation = None
    if data.validation:
        count = _VALIDATION_FRAMES
        validation = FrameDataset(data.validation, length=count, size=data.size, seed=1, landmarks=landmarks)
    return config, training, validation


def imprecise_pose(pose: Pose, generator: torch.Generator, *, shift_cm: float, zoom: float) -> Pose:
    """Add a tracker's errors: a shift of up to `shift_cm` on the head for each axis, a scale of up to exp(+-zoom)."""
    noise = (torch.rand(len(pose.scale), 3, generator=generator) * 2 - 1).to(pose.scale)
    shift = noise[:, :2] * (shift_cm / HEAD_HALF_CM) * pose.scale[:, None]
    return Pose(pose.rotation, pose.translation + shift, pose.scale * (zoom * noise[:, 2]).exp())


def augment_frames(
    batch: FrameBatch,
    generator: torch.Generator,
    *,
    mirrors: bool,
    jitter: float = 0.7,
    degrades: bool = True,
    shift: float = 0.06,
    zoom: float = 0.1,
) -> FrameBatch:
    """Augment a batch: half of the images get another background, and all are cropped at random.

    Args:
        batch: a batch of `data.frames`, in uint8.
        generator: on the CPU.
        mirrors: whether to mirror half of the samples.
        jitter: strength of the colour jitter.
        degrades: whether to add blur and noise to half of the images.
        shift: crops are shifted by up to this many crop units, like the imprecise crops of a tracker.
        zoom: crops are scaled by up to exp(+-zoom). With shift 0 and zoom 0 nothing is resampled.

    Returns:
        The batch with images and mattes in [0, 1], and all labels adapted to the crops.
    """
    count = len(batch)

    def draw(*shape: int) -> Tensor:
        return (torch.rand(count, *shape, generator=generator) * 2 - 1).to(batch.scale.device)

    if mirrors:
        batch = batch.mirror_half(generator)
    image, matte = batch.image.float() / 255, batch.matte.float() / 255
    replaced = composite(image, matte, random_background(image, generator))
    image = torch.where(draw()[:, None, None, None] < 0, replaced, image)
    if degrades:
        image = degrade(image, generator=generator)
    image = color_jitter(image, strength=jitter, generator=generator)
    batch = replace(batch, image=image, matte=matte)
    return batch.crop(draw(2) * shift, (draw() * zoom).exp()) if shift or zoom else batch
