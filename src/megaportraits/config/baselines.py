"""Configs of the methods that the paper compares with (4.2, Table 1), and of their training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from megaportraits.config.base import Blocks, Channels, Config, Factor, LossWeight, Name, Pixels
from megaportraits.config.enhancer import EnhancerDataConfig, EnhancerLossConfig
from megaportraits.config.model import Depth, DiscriminatorConfig
from megaportraits.config.training import DataConfig, OptimConfig, PictureLossConfig, RunConfig

Count = Annotated[int, Field(ge=1, le=512)]
"""Number of keypoints or bins."""
Levels = Annotated[int, Field(ge=1, le=8)]
"""Number of halvings."""


class HourglassConfig(Config):
    """An hourglass network: level n below the input has the width `width` 2^n, at most `most`."""

    width: Channels = 32
    most: Channels = 1024
    levels: Levels = 5


class BaselineModelConfig(Config):
    """What all baselines have."""

    image_size: Pixels = 256
    predict_matte: bool = False
    """Ours: a fourth output is alpha, as in `ModelConfig`. Without it the model works on whole images, as published."""
    groups: Channels = 32
    """Number of groups of the GroupNorms, which replace the published BatchNorms."""
    temperature: float = Field(default=0.1, gt=0, le=100)
    """Temperature of the softmax over keypoint heat maps."""
    detector_shrink: Factor = 4
    """Factor by which the keypoint detector's input is reduced."""
    detector: HourglassConfig = HourglassConfig()
    kernel: Literal[3, 5, 7] = 7
    """Kernel size of the convolutions that give keypoint heat maps, masks and occlusion maps."""
    width: Channels = 64
    """Width of the first and the last layers at full resolution; each halving doubles it, to at most `most`."""
    most: Channels = 512
    halvings: Levels = 2
    """Number of halvings between the image and the features that are warped."""
    blocks: Blocks = 6
    """Number of residual blocks after the warp."""

    @property
    def predict_background(self) -> bool:
        """Whether images keep their background: if there is no alpha, as in the published models."""
        return not self.predict_matte

    def _check_halvings(self, what: str, side: float, levels: int) -> None:
        if side != int(side) or int(side) % 2**levels:
            raise ValueError(f"{what} has {side:g} px, which cannot be halved {levels} times: change its levels")


class FommConfig(BaselineModelConfig):
    """First Order Motion Model (Siarohin et al., 2019). The defaults are its published sizes for faces (`vox-256`)."""

    kind: Literal["fomm"] = "fomm"
    name: Name = "fomm"
    keypoints: Count = 10
    motion_shrink: Factor = 4
    """Factor by which the image is reduced for the dense motion network."""
    motion: HourglassConfig = HourglassConfig(width=64)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._check_halvings("the detector's input", self.image_size / self.detector_shrink, self.detector.levels)
        self._check_halvings("the dense motion's input", self.image_size / self.motion_shrink, self.motion.levels)
        self._check_halvings("the image", self.image_size, self.halvings)
        return self


class FaceVid2VidConfig(BaselineModelConfig):
    """face-vid2vid (Wang et al., 2021). The defaults are its published sizes."""

    kind: Literal["face-vid2vid"] = "face-vid2vid"
    name: Name = "face-vid2vid"
    keypoints: Count = 20
    volume_channels: Channels = 32
    volume_depth: Depth = 16
    """Channels and depth of the appearance volume."""
    blocks_3d: Blocks = 6
    """Number of residual blocks of the appearance volume."""
    detector_depth: Depth = 16
    """Depth of the canonical keypoints' heat maps."""
    pose_width: Channels = 64
    """Width of the ResNet-50 that estimates head pose and expression."""
    bins: Count = 66
    """Number of bins of each Euler angle."""
    bin_degrees: float = Field(default=3.0, gt=0, le=180)
    compressed: Channels = 4
    """Channels to which the volume is reduced for the dense motion network."""
    motion: HourglassConfig = HourglassConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._check_halvings("the detector's input", self.image_size / self.detector_shrink, self.detector.levels)
        self._check_halvings("the image", self.image_size, self.halvings)
        self._check_halvings("the volume", self.image_size / 2**self.halvings, self.motion.levels)
        return self


class BaselineLossConfig(PictureLossConfig):
    """Weights of the baselines' losses; 0 switches a loss off.

    The published perceptual losses sum five layers and four scales with the weight 10 each. `perceptual` multiplies
    a mean over the scales with 0.2 for each layer, so 200 is the same.
    """

    perceptual: LossWeight = 200.0
    face: LossWeight = 0.0
    gaze: LossWeight = 0.0
    adversarial: LossWeight = 0.0
    feature_matching: LossWeight = 0.0
    equivariance: LossWeight = 10.0
    """Distance between the driver's keypoints and those of a warped driver, moved back."""
    equivariance_jacobian: LossWeight = 0.0
    """The same for the keypoints' Jacobians (FOMM)."""
    keypoint_prior: LossWeight = 0.0
    """Keypoints far from each other and in front of the volume's centre (face-vid2vid)."""
    head_pose: LossWeight = 0.0
    """Error of the estimated rotations against the labelled ones (face-vid2vid)."""
    deformation: LossWeight = 0.0
    """Size of the keypoints' expression deltas (face-vid2vid)."""
    transform_affine: LossWeight = 0.05
    """Standard deviation of the random affine part of the equivariance losses' warp."""
    transform_bend: LossWeight = 0.005
    """Standard deviation of the weights of that warp's thin-plate kernels."""
    transform_points: int = Field(default=5, ge=2, le=32)
    """Control points of that warp along each axis."""


class BaselineOptimConfig(OptimConfig):
    """Adam without weight decay, as published for the keypoint-based baselines."""

    spectral_norm: bool = False
    weight_decay: float = Field(default=0.0, ge=0, le=10)


class TrainBaselineConfig(Config):
    """`megaportraits train baseline`."""

    model: Annotated[FommConfig | FaceVid2VidConfig, Field(discriminator="kind")] = FommConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    data: DataConfig = DataConfig()
    loss: BaselineLossConfig = BaselineLossConfig()
    optim: BaselineOptimConfig = BaselineOptimConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _has_what_it_supervises(self) -> Self:
        if self.loss.reconstruction_emphasis:
            raise ValueError("loss.reconstruction_emphasis is a loss of the base model: set it to 0")
        own = {"fomm": ("equivariance_jacobian",), "face-vid2vid": ("keypoint_prior", "head_pose", "deformation")}
        for kind, names in own.items():
            wrong = [name for name in names if getattr(self.loss, name)]
            if kind != self.model.kind and wrong:
                raise ValueError(
                    f"loss.{wrong[0]} is a loss of {kind}, and model.kind is {self.model.kind}: set it to 0"
                )
        return self


class HiFaceGanConfig(Config):
    """HiFaceGAN (Yang et al., 2020) in place of the enhancer. The defaults are its published sizes."""

    name: Name = "hifacegan"
    image_size: Pixels = 512
    """Side of the base model's image, pixels; the output is twice as large."""
    matte: bool = False
    """Ours: input and output have an alpha channel, for base models that predict alpha."""
    groups: Channels = 32
    """Number of groups of the norms that the guidance modulates."""
    width: Channels = 48
    """Width at the output's resolution; each halving doubles it, to at most 16 times."""
    halvings: int = Field(default=5, ge=2, le=8)
    hidden: Channels = 128
    """Width of the layer that the guidance's two convolutions share."""

    @property
    def source_skip(self) -> bool:
        """Whether the source's moved detail is an input: never."""
        return False

    @property
    def alpha_stays(self) -> bool:
        """Whether alpha is only upsampled: never."""
        return False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if 2 * self.image_size % 2**self.halvings:
            raise ValueError(f"{2 * self.image_size} px cannot be halved {self.halvings} times: change halvings")
        return self


class TrainHiFaceGanConfig(Config):
    """`megaportraits train hifacegan`: as `TrainEnhancerConfig`."""

    base: str = "nano"
    """The frozen base model: a shipped name or a .safetensors file."""
    model: HiFaceGanConfig = HiFaceGanConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    data: EnhancerDataConfig = EnhancerDataConfig()
    loss: EnhancerLossConfig = EnhancerLossConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
