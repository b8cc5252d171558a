"""Configs of the student (3.3, A.3) and of its training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from megaportraits.config.base import Channels, Config, Name, Pixels, Steps, Widths, Workers
from megaportraits.config.model import DiscriminatorConfig
from megaportraits.config.training import OptimConfig, PictureLossConfig, RunConfig

_REDUCTION = 32
"""How much smaller a ResNet-18's features are than its image."""


class StudentConfig(Config):
    """The student: a ResNet-18 of the driver, a SPADE generator (A.3). The defaults are `student`, the paper's."""

    name: Name = "student"
    image_size: Pixels = 1024
    """Side of the output, pixels: that of G_HR, which the student mimics (3.3)."""
    input_size: Pixels = 512
    """Side at which the encoder sees drivers, whatever their size, pixels. The paper does not say it; G_base sees 512,
    and where G_HR's last doubling lies in the student is not said either: here one feature becomes 2 x 2 pixels."""
    encoder_width: Channels = 64
    groups: Channels = 32
    """Groups of the encoder's norms."""
    weight_standardization: Literal["paper", "all", "first", "none"] = "paper"
    widths: Widths = (192, 192, 192, 192, 192, 96, 48, 24)
    """One SPADE block each."""
    doublings: int = Field(default=5, ge=0, le=16)
    """So many of the last blocks double the resolution."""
    identity_size: Pixels = 64
    """Identity tensors are at most this wide and high (A.3)."""
    encoder_skips: bool = False
    """Ours: the encoder's finer stages are added where the generator has their resolution. A 4 x 4 grid alone, which is
    what a ResNet-18 leaves of 128 px, hardly tells where lids and lips are."""
    predict_matte: bool = False
    """Ours: a fourth output is alpha, if the teacher gives one."""

    @property
    def start_size(self) -> int:
        """Side of the encoder's features."""
        return self.input_size // _REDUCTION

    @property
    def shuffle(self) -> int:
        """Pixels along each side that one feature of the last block becomes."""
        return self.image_size // (self.start_size << self.doublings)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.doublings > len(self.widths):
            raise ValueError(f"doublings is {self.doublings}, but there are only {len(self.widths)} blocks (widths)")
        if self.input_size % _REDUCTION or not self.input_size:
            raise ValueError(f"input_size {self.input_size} is not a multiple of {_REDUCTION}, the encoder's reduction")
        last = self.start_size << self.doublings
        if self.image_size % last or self.image_size // last not in (1, 2, 4):
            raise ValueError(
                f"image_size {self.image_size} must be 1, 2 or 4 times the last block's {last} px "
                f"(input_size / {_REDUCTION}, doubled {self.doublings} times)"
            )
        return self


class StudentDataConfig(Config):
    """Where the teacher's pictures are (`megaportraits distill` makes them)."""

    path: str = ""
    validation: str = ""
    """Pictures of other drivers; "" takes none."""
    workers: Workers = 1
    driver_augmentation: bool = True
    """Drivers change colours, sharpness and (where their matte is known) background; what they do stays."""


class StudentLossConfig(PictureLossConfig):
    """The student's: the paper's has perceptual and adversarial losses only (B.1)."""

    adversarial_from: Steps = 0
    """Step from which on the discriminator has a say; it learns from the start."""


class StudentOptimConfig(OptimConfig):
    """The base model's (B.1), without its spectral norm: the discriminator judges few, known people."""

    spectral_norm: bool = False


class TrainStudentConfig(Config):
    """`megaportraits distill`."""

    model: StudentConfig = StudentConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig(scales=4)
    data: StudentDataConfig = StudentDataConfig()
    loss: StudentLossConfig = StudentLossConfig()
    optim: StudentOptimConfig = StudentOptimConfig()
    run: RunConfig = RunConfig()
