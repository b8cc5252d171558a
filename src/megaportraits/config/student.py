"""Configs of the student (3.3, A.3) and of its training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from megaportraits.config.base import Channels, Config, Name, Pixels, Steps, Widths, Workers
from megaportraits.config.model import DiscriminatorConfig
from megaportraits.config.training import OptimConfig, PictureLossConfig, RunConfig

_REDUCTION = 32
"""Reduction from a ResNet-18's input to its last features."""


class StudentConfig(Config):
    """The student: a ResNet-18 that encodes the driver, and a SPADE generator (A.3).

    The defaults are those of the config `student`, the paper's.
    """

    name: Name = "student"
    image_size: Pixels = 1024
    """Side of the output, pixels: that of G_HR, from which the student learns (3.3)."""
    input_size: Pixels = 512
    """Side to which drivers are resized for the encoder, pixels. The paper does not give it; G_base sees 512. Nor
    does the paper say where the student doubles to G_HR's resolution; here the last layer outputs 2 x 2 pixels per
    feature."""
    encoder_width: Channels = 64
    groups: Channels = 32
    """Number of groups of the encoder's GroupNorms."""
    weight_standardization: Literal["paper", "all", "first", "none"] = "paper"
    widths: Widths = (192, 192, 192, 192, 192, 96, 48, 24)
    """Widths of the SPADE blocks."""
    doublings: int = Field(default=5, ge=0, le=16)
    """How many of the last blocks double the resolution."""
    identity_size: Pixels = 64
    """Largest height and width of identity tensors (A.3)."""
    encoder_skips: bool = False
    """Ours: the features of the encoder's earlier stages are added in the generator at the same resolution. The last
    features alone, a 4 x 4 grid for an input of 128 px, hardly locate lids and lips."""
    predict_matte: bool = False
    """Ours: a fourth output is alpha, for teachers that predict alpha."""

    @property
    def start_size(self) -> int:
        """Side of the encoder's features."""
        return self.input_size // _REDUCTION

    @property
    def shuffle(self) -> int:
        """Side of the block of output pixels that one feature of the last block gives."""
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
    """Where the distillation samples are (`megaportraits distill` writes them)."""

    path: str = ""
    validation: str = ""
    """Distillation samples of other drivers, for validation; "" for none."""
    workers: Workers = 1
    driver_augmentation: bool = True
    """Random colours, sharpness and (where the matte is known) background of drivers; their motion stays the same."""


class StudentLossConfig(PictureLossConfig):
    """Weights of the student's losses; the paper's student has perceptual and adversarial losses only (B.1)."""

    adversarial_from: Steps = 0
    """Step after which the adversarial losses apply. The discriminator is trained from the start."""


class StudentOptimConfig(OptimConfig):
    """As for the base model (B.1), but without spectral norm: the discriminator sees few, known people."""

    spectral_norm: bool = False


class TrainStudentConfig(Config):
    """`megaportraits distill`."""

    model: StudentConfig = StudentConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig(scales=4)
    data: StudentDataConfig = StudentDataConfig()
    loss: StudentLossConfig = StudentLossConfig()
    optim: StudentOptimConfig = StudentOptimConfig()
    run: RunConfig = RunConfig()
