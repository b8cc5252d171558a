"""Configs of the second stage: G_enh, its losses and its training (3.2, 4.5, A.2)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from megaportraits.config.base import (
    Blocks,
    Channels,
    Config,
    Fraction,
    LossWeight,
    Name,
    Pixels,
    Steps,
    Switches,
    Widths,
    Workers,
)
from megaportraits.config.model import DiscriminatorConfig
from megaportraits.config.training import OptimConfig, RunConfig


class EnhancerConfig(Config):
    """G_enh (A.2, Figure 10): twice the base model's resolution. The defaults are `paper-hr`, as in the figure."""

    name: Name = "paper-hr"
    image_size: Pixels = 512
    """Side of the base model's image, pixels; the output is twice as large."""
    groups: Channels = 32
    weight_standardization: Literal["paper", "all", "first", "none"] = "paper"
    matte: bool = False
    """Ours: input and output have an alpha channel, for base models that predict alpha."""
    residual: bool = False
    """From the first author's code: the network's output is added to the bicubically upsampled image. Alpha is
    only upsampled."""
    source_skip: bool = False
    """Ours: a further input has the source's finer detail, moved along the base model's flow (`fine_picture`). With
    `residual` the network's output is added to that input. Needs a base model with `source_skip`."""
    upsample_input: bool = True
    """Upsample the image by 2 before the first convolution, as in the figure. The paper's text starts at the base
    model's resolution."""
    stem: Channels = 64
    kernel: Literal[1, 3, 5, 7, 9, 11] = 7
    """Kernel size of the first convolution."""
    widths: Widths = (128, 256, 512)
    """Encoder: widths of the ResBlock2Ds; 2x2 average pooling follows where `pool` is true."""
    pool: Switches = (True, True, True)
    channels: Channels = 512
    blocks: Blocks = 8
    """Number of ResBlock2Ds of the width `channels` at the lowest resolution."""
    up: Widths = (256, 128, 128)
    """Decoder: widths of the ResBlock2Ds; nearest upsampling precedes each."""
    high: Widths = (128, 64, 32)
    """Widths of the ResBlock2Ds after the last upsampling."""
    skips: bool = False
    """Ours: U-Net skips. The encoder's features before each pooling are added in the decoder at the same resolution."""
    shuffle: Literal[1, 2] = 1
    """Ours: with 2 the last layer outputs blocks of 2 x 2 pixels, so that no layer runs at full resolution."""

    @property
    def alpha_stays(self) -> bool:
        """Whether alpha is only upsampled."""
        return self.matte and self.residual

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.widths) != len(self.pool):
            raise ValueError(f"widths has {len(self.widths)} entries and pool {len(self.pool)}: give one per width")
        start, doublings = (2 if self.upsample_input else 1), len(self.up) + (self.shuffle == 2)
        if start * 2**doublings != 2 * 2 ** sum(self.pool):
            raise ValueError(
                f"the image is doubled {int(self.upsample_input) + doublings} times and halved {sum(self.pool)} times: "
                "an enhancer doubles once more than it halves"
            )
        pooled = tuple(width for width, halves in zip(self.widths, self.pool, strict=True) if halves)
        if self.skips and self.up[: len(pooled)] != pooled[::-1]:
            raise ValueError(
                f"skips add what is pooled ({pooled}) to what is upsampled ({self.up}): widths must mirror"
            )
        return self


class EnhancerDataConfig(Config):
    """Photographs, in shards that `megaportraits prepare` wrote, and how a pair is made from one photograph (4.5)."""

    path: str = ""
    validation: str = ""
    """A second folder of shards, with other people, for validation; "" for none."""
    workers: Workers = 2
    min_size: int = Field(default=0, ge=0, le=8192)
    """Stored frames smaller than this, pixels, are left out; 0 stands for 0.75 of the enhanced size."""
    rotation: float = Field(default=8.0, ge=0, le=180)
    """Standard deviation of the random rotations, degrees; truncated at two standard deviations."""
    shift: float = Field(default=0.05, ge=0, le=10)
    """Random crops: largest shift of the head, crop units; uniform."""
    zoom: float = Field(default=0.12, ge=0, le=10)
    """Random crops: heads are enlarged by up to exp(zoom)."""
    flip: bool = True
    jitter: float = Field(default=0.15, ge=0, le=10)
    """Strength of the colour jitter that all views of a photograph share."""
    source_drop: Fraction = 0.0
    """With source_skip: share of samples in which the moved source's detail is removed in random regions, so that the
    network learns to generate it. A photograph that drives itself shows all of the target's detail; with another driver
    the source may lack some, for example the inside of the mouth."""
    aligned_truth: bool = False
    """Ours: the target of the supervised part is the photograph moved along the base model's flow, not its second view.
    The base model's image is off from that view by about a pixel, and with misaligned targets L_MAE teaches blur."""


class EnhancerLossConfig(Config):
    """Weights of the losses of eq. 10; the defaults are the paper's."""

    reconstruction: LossWeight = 100.0
    """L_MAE against the photograph."""
    adversarial: LossWeight = 1.0
    feature_matching: LossWeight = 100.0
    cross_adversarial: LossWeight = 1.0
    """L_adv^c: adversarial loss on images of cross-driving, which have no target."""
    cycle: LossWeight = 10.0
    """L_cyc^c: at low resolution images of cross-driving must equal the base model's image."""
    cycle_factor: int = Field(default=4, ge=1, le=64)
    """Downsampling factor of the base model's image for that comparison (eq. 9: DS_4 and DS_8)."""
    perceptual: LossWeight = 0.0
    """Perceptual loss of the supervised part; the paper's text names it, eq. 10 does not."""
    perceptual_network: Literal["vgg19", "effnet-lite0"] = "vgg19"
    perceptual_scales: int = Field(default=1, ge=1, le=8)
    matte: LossWeight = 0.0
    """L1 of alpha. Needs model.matte without model.residual, which only upsamples alpha."""
    cross_from: Steps = 0
    """First step of the unsupervised part, so that the discriminator can learn from photographs first."""

    @property
    def crosses(self) -> bool:
        """Whether training has the unsupervised part (cross-driving)."""
        return bool(self.cross_adversarial or self.cycle)

    @property
    def adversarials(self) -> bool:
        """Whether a discriminator is needed."""
        return bool(self.adversarial or self.feature_matching or self.cross_adversarial)


class TrainEnhancerConfig(Config):
    """`megaportraits train enhancer`."""

    base: str = "nano"
    """The frozen base model: a shipped name or a .safetensors file."""
    model: EnhancerConfig = EnhancerConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    data: EnhancerDataConfig = EnhancerDataConfig()
    loss: EnhancerLossConfig = EnhancerLossConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
