"""Configs of networks: widths, depths and counts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from megaportraits.config.base import Blocks, Channels, Config, Factor, Name, Pixels, Switches, Widths

Depth = Annotated[int, Field(ge=1, le=512)]
"""Depth of a volume, cells."""
Stride = Literal[-2, 1, 2]


class AppearanceConfig(Config):
    """E_app: the volume path and the descriptor path."""

    stem: Channels = 64
    widths: Widths = (128, 256, 512)
    pool: Switches = (True, True, True)
    blocks_3d: Blocks = 3
    descriptor_depth: Literal[18, 50] = 50
    descriptor_width: Channels = 64
    descriptor_size: Pixels = 256

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.widths) != len(self.pool):
            raise ValueError(
                f"widths has {len(self.widths)} entries and pool {len(self.pool)}: give one pool per width"
            )
        return self


class MotionConfig(Config):
    """E_mtn: head-pose network and expression network, both ResNet-18."""

    z: Channels = 512
    width: Channels = 64
    face_size: Pixels = 256
    """Side of the face crop that the expression network sees, pixels."""
    face_cm: float = Field(default=24.0, gt=0, le=1000)
    """Side of that crop on the head, centimetres."""
    pose_width: Channels = 64
    pose_size: Pixels = 256
    blendshapes: Annotated[tuple[Name, ...], Field(max_length=512)] = ()
    """Ours: ARKit names of the blendshapes that correct z (`megaportraits calibrate`)."""
    append_blendshapes: bool = False
    """Ours: append the blendshape residuals to z, for expressions that E_mtn has not learned to see: teeth, grins."""

    @property
    def expression_size(self) -> int:
        """Length of an expression vector: that of z, plus one value per blendshape with `append_blendshapes`."""
        return self.z + (len(self.blendshapes) if self.append_blendshapes else 0)

    @model_validator(mode="after")
    def _appends_some(self) -> Self:
        if self.append_blendshapes and not self.blendshapes:
            raise ValueError("append_blendshapes needs motion.blendshapes, which is empty")
        return self


class WarpConfig(Config):
    """W_s-> and W_->d: input depth, then a width and an upsampling factor (D, H, W) for each ResBlock3D*."""

    inputs: Channels = 512
    input_depth: Depth = 4
    widths: Widths = (256, 128, 64, 32)
    upsample: tuple[tuple[Factor, Factor, Factor], ...] = ((2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.widths) != len(self.upsample):
            raise ValueError(f"widths has {len(self.widths)} entries and upsample {len(self.upsample)}")
        return self


class Generator3DConfig(Config):
    """G_3D: one width for each level, and the resampling (D, H, W) between levels (2 halves, -2 doubles)."""

    widths: Widths = (192, 384, 512)
    strides: tuple[tuple[Stride, Stride, Stride], ...] = ((-2, 2, 2), (2, 2, 2), (2, 2, 2))
    bottleneck_blocks: Blocks = 1

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.widths) != len(self.strides):
            raise ValueError(f"widths has {len(self.widths)} entries and strides {len(self.strides)}")
        return self


class Generator2DConfig(Config):
    """G_2D: residual blocks at the volume's resolution, then one upsampling block for each width."""

    channels: Channels = 512
    blocks: Blocks = 8
    widths: Widths = (256, 128, 64)
    fine: Annotated[tuple[Channels, ...], Field(max_length=8)] = ()
    """Widths of further blocks, each of which doubles the image and adds detail. Without `source_skip` they are the
    "additional upsampling block" of B.2; with it they are ours. All other parts of the model work on images of
    `ModelConfig.coarse_size`."""


class DiscriminatorConfig(Config):
    """Multi-scale patch discriminator (B.1); widths and strides are those of the first author's code."""

    widths: Widths = (64, 128, 256, 512)
    strides: tuple[Factor, ...] = (2, 2, 2, 1)
    scales: int = Field(default=3, ge=1, le=8)
    """Levels of the image pyramid, with one network for each."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.widths) != len(self.strides):
            raise ValueError(f"widths has {len(self.widths)} entries and strides {len(self.strides)}")
        return self


class ModelConfig(Config):
    """The base model (3.1, A.1). The defaults are `paper-512`."""

    name: Name = "paper-512"
    image_size: Pixels = 512
    volume_channels: Channels = 96
    volume_depth: Depth = 16
    descriptor: Channels = 512
    descriptor_grid: int = Field(default=4, ge=1, le=64)
    groups: Channels = 32
    weight_standardization: Literal["paper", "all", "first", "none"] = "paper"
    """Which convolutions are standardised; see `nn.blocks.BlockStyle`."""
    use_descriptor: bool = True
    """Ablation (B.4 a): without e_s."""
    use_source_warp: bool = True
    """Ablation (B.4 b): without w_s->."""
    predict_matte: bool = False
    """Ours: G_2D's fourth output is alpha, so that no matting network has to run for each frame."""
    predict_background: bool = False
    """Ablation (B.4 d): the model predicts the background with the person, so sources keep their background."""
    expression_in_generator: bool = False
    """Ours: z scales and shifts the features of G_2D, for what a coarse warp cannot represent: lids, gaze, teeth."""
    expression_change: bool = False
    """Ours: the difference between the driver's z and the source's scales and shifts the features, too. Without a
    difference G_2D can copy the source."""
    source_skip: bool = False
    """Ours: G_2D can copy the source's pixels along both warps, so that a small volume need not store them."""
    refine_flow: bool = False
    """Ours: with source_skip, G_2D refines the flow where the volume is too coarse: lids, corners of the mouth."""
    mirror_hidden: bool = False
    """Ours: with source_skip, disocclusions are copied from the other side of the head, mirrored, if visible."""
    appearance: AppearanceConfig = AppearanceConfig()
    motion: MotionConfig = MotionConfig()
    warp: WarpConfig = WarpConfig()
    generator_3d: Generator3DConfig = Generator3DConfig()
    generator_2d: Generator2DConfig = Generator2DConfig()

    @property
    def coarse_size(self) -> int:
        """Side of the images that all parts but G_2D's fine blocks use, pixels; `image_size` without fine blocks."""
        return self.image_size // 2 ** len(self.generator_2d.fine)

    def coarse_side(self, side: int) -> int:
        """`coarse_size` for images of `side` pixels instead of `image_size`."""
        return side * self.coarse_size // self.image_size

    @property
    def volume_size(self) -> int:
        """Height and width of v_s at `image_size`."""
        return self.coarse_size // 2 ** sum(self.appearance.pool)

    @model_validator(mode="after")
    def _adds_to_what_is_on(self) -> Self:
        if self.expression_change and not self.expression_in_generator:
            raise ValueError("expression_change needs expression_in_generator: switch that on, too")
        if self.mirror_hidden and not self.source_skip:
            raise ValueError("mirror_hidden needs source_skip: switch that on, too")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        up = 2 ** len(self.generator_2d.widths)
        if self.image_size % 2 ** len(self.generator_2d.fine):
            raise ValueError(
                f"image_size {self.image_size} cannot be halved {len(self.generator_2d.fine)} times, once for each of "
                "generator_2d.fine"
            )
        if self.volume_size * up != self.coarse_size:
            raise ValueError(
                f"generator_2d doubles a {self.volume_size} px volume {len(self.generator_2d.widths)} times, to "
                f"{self.volume_size * up} px, but the coarse image has {self.coarse_size} px: match appearance.pool to "
                "its widths"
            )
        return self


class HeadPoseConfig(Config):
    """The head-pose network alone. A base model can load it if this config equals `of` of the model's config."""

    width: Channels = 64
    size: Pixels = 256
    groups: Channels = 32
    weight_standardization: Literal["paper", "all", "first", "none"] = "paper"

    @classmethod
    def of(cls, model: ModelConfig) -> Self:
        """The config of a base model's head-pose network."""
        return cls(
            width=model.motion.pose_width,
            size=model.motion.pose_size,
            groups=model.groups,
            weight_standardization=model.weight_standardization,
        )


class ComponentLandmarkConfig(Config):
    """The network that finds landmarks in crops of eyes and mouth (`models/component_landmarks.py`). Ours."""

    name: Name = "component-landmarks"
    eye_size: Pixels = 48
    """Side of the crop of an eye, pixels."""
    eye_cm: float = Field(default=6.0, gt=0, le=1000)
    """Side of that crop on the head, centimetres."""
    mouth_size: Pixels = 64
    mouth_cm: float = Field(default=8.0, gt=0, le=1000)
    widths: Widths = (32, 64, 96)
    """Widths of the stages, each of which halves its input."""
    groups: Channels = 8
    hidden: Channels = 192


class GazeConfig(Config):
    """The gaze and blink network (B.5): a VGG-16 eye encoder, an MLP for keypoints, two heads."""

    name: Name = "paper"
    eye_size: Pixels = 64
    """Side of the crop of an eye, pixels."""
    eye_cm: float = Field(default=4.8, gt=0, le=1000)
    """Side of that crop on the head, centimetres."""
    widths: Annotated[tuple[Widths, ...], Field(min_length=1, max_length=8)] = (
        (64, 64),
        (128, 128),
        (256, 256, 256),
        (512, 512, 512),
        (512, 512, 512),
    )
    """Widths of the convolutions of each stage; 2x2 pooling follows each stage."""
    eyes: Channels = 256
    keypoints: Channels = 64
    keypoint_input: Literal["pose", "landmarks"] = "pose"
    """Input of the keypoint branch: the clip's landmarks, as in B.5 (config `gaze`), or twelve points of the neutral
    head projected with the head pose, for clips without landmarks (config `gaze-nano`)."""
    hidden: Channels = 128
    pretrained: bool = True
    """Start the eye encoder from ImageNet's VGG-16; needs the paper's widths."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.eye_size % 2 ** len(self.widths):
            raise ValueError(
                f"eye_size {self.eye_size} cannot be halved {len(self.widths)} times: one pooling per stage"
            )
        return self
