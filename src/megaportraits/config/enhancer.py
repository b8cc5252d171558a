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
    """G_enh (A.2, Figure 10): twice the base's resolution. The defaults are `paper-hr`, as the figure draws it."""

    name: Name = "paper-hr"
    image_size: Pixels = 512
    """Side of the base model's image, pixels; the result's is twice that."""
    groups: Channels = 32
    weight_standardization: Literal["paper", "all", "first", "none"] = "paper"
    matte: bool = False
    """Ours: alpha in and out, for base models that predict one."""
    residual: bool = False
    """The author's: the network's output is added to the bicubically upsampled image; alpha stays as it came."""
    source_skip: bool = False
    """Ours: it also sees the source's finer detail, moved along the base model's flow (with its `source_skip`), and the
    residual form starts there."""
    upsample_input: bool = True
    """The figure: the image is doubled before the first convolution. The text begins at the base's resolution."""
    stem: Channels = 64
    kernel: Literal[1, 3, 5, 7, 9, 11] = 7
    """Of the first convolution."""
    widths: Widths = (128, 256, 512)
    """Encoder: one ResBlock2D each, followed by 2x2 average pooling where `pool` says so."""
    pool: Switches = (True, True, True)
    channels: Channels = 512
    blocks: Blocks = 8
    """ResBlock2Ds of that width at the lowest resolution."""
    up: Widths = (256, 128, 128)
    """Decoder: nearest upsampling and one ResBlock2D each."""
    high: Widths = (128, 64, 32)
    """ResBlock2Ds after the last upsampling."""
    skips: bool = False
    """Ours: what is pooled in the encoder is added at the same resolution in the decoder."""
    shuffle: Literal[1, 2] = 1
    """Ours: 2 lets the last layer write blocks of 2 x 2 pixels, so that nothing is computed at full resolution."""

    @property
    def alpha_stays(self) -> bool:
        """Whether alpha comes out as it came in."""
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
    """Photographs, as shards that `megaportraits prepare` made, and how pairs are made from one of them (4.5)."""

    path: str = ""
    validation: str = ""
    """A second folder of shards with other people; "" takes none."""
    workers: Workers = 2
    min_size: int = Field(default=0, ge=0, le=8192)
    """Stored frames smaller than this are left out; 0 takes 0.75 of the enhanced size."""
    rotation: float = Field(default=8.0, ge=0, le=180)
    """Standard deviation of the random rotations, degrees; cut off at twice that."""
    shift: float = Field(default=0.05, ge=0, le=10)
    """Random crops: shifts of the head, crop units, uniform up to this."""
    zoom: float = Field(default=0.12, ge=0, le=10)
    """Random crops: heads are enlarged by up to exp(zoom)."""
    flip: bool = True
    jitter: float = Field(default=0.15, ge=0, le=10)
    """Strength of the colour jitter that all views of a photograph share."""
    source_drop: Fraction = 0.0
    """Share of samples whose moved detail is taken away in random regions, where it has to be made up (with
    source_skip): a photograph that drives itself shows all of its own detail, a stranger's mouth does not."""
    aligned_truth: bool = False
    """Ours: the truth of the supervised part is the photograph moved along the base model's flow, not its second view.
    A base model misses that view by a pixel or so, and where truth and image do not meet L_MAE teaches blur."""


class EnhancerLossConfig(Config):
    """Eq. 10; weights of the paper. 0 switches a loss off."""

    reconstruction: LossWeight = 100.0
    """L_MAE against the photograph."""
    adversarial: LossWeight = 1.0
    feature_matching: LossWeight = 100.0
    cross_adversarial: LossWeight = 1.0
    """L_adv^c: images of cross-driving must look like photographs (no truth is known)."""
    cycle: LossWeight = 10.0
    """L_cyc^c: at low resolution they must still be the base model's image."""
    cycle_factor: int = Field(default=4, ge=1, le=64)
    """How much smaller than the base model's image they are compared (eq. 9: DS_4 and DS_8)."""
    perceptual: LossWeight = 0.0
    """Of the supervised part; the text names it, eq. 10 does not."""
    perceptual_network: Literal["vgg19", "effnet-lite0"] = "vgg19"
    perceptual_scales: int = Field(default=1, ge=1, le=8)
    matte: LossWeight = 0.0
    """L1 of the alpha (with model.matte, but without model.residual: there alpha stays as it came)."""
    cross_from: Steps = 0
    """First step of the unsupervised part: the discriminator learns photographs first."""

    @property
    def crosses(self) -> bool:
        """Whether there is an unsupervised part."""
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
