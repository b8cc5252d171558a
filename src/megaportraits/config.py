"""Configuration: frozen pydantic models, strict YAML, `--set a.b=c` overrides.

Named model configs ship in `megaportraits/configs`. All problems of a file are collected and told at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from megaportraits.errors import ConfigError


class Config(BaseModel):
    """Base of all configs: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AppearanceConfig(Config):
    """E_app: the volume path and the descriptor path."""

    stem: int = 64
    widths: tuple[int, ...] = (128, 256, 512)
    pool: tuple[bool, ...] = (True, True, True)
    blocks_3d: int = 3
    descriptor_depth: Literal[18, 50] = 50
    descriptor_width: int = 64
    descriptor_size: int = 256

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.widths) != len(self.pool):
            raise ValueError(
                f"widths has {len(self.widths)} entries and pool {len(self.pool)}: give one pool per width"
            )
        return self


class MotionConfig(Config):
    """E_mtn: head-pose network and expression network, both ResNet-18."""

    z: int = 512
    width: int = 64
    face_size: int = 256
    """Side of the face-centred crop that the expression network sees, pixels."""
    face_cm: float = 24.0
    """Side of that crop on the head, centimetres."""
    pose_width: int = 64
    pose_size: int = 256


class WarpConfig(Config):
    """W_s-> and W_->d: input depth, then a width and an upsampling factor (D, H, W) per ResBlock3D*."""

    inputs: int = 512
    input_depth: int = 4
    widths: tuple[int, ...] = (256, 128, 64, 32)
    upsample: tuple[tuple[int, int, int], ...] = ((2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))


class Generator3DConfig(Config):
    """G_3D: one width per level, and the resampling (D, H, W) between levels (2: halved, -2: doubled)."""

    widths: tuple[int, ...] = (192, 384, 512)
    strides: tuple[tuple[int, int, int], ...] = ((-2, 2, 2), (2, 2, 2), (2, 2, 2))
    bottleneck_blocks: int = 1


class Generator2DConfig(Config):
    """G_2D: residual blocks at the volume's resolution, then one upsampling block per width."""

    channels: int = 512
    blocks: int = 8
    widths: tuple[int, ...] = (256, 128, 64)


class DiscriminatorConfig(Config):
    """Multi-scale patch discriminator (B.1); widths and strides are the first author's."""

    widths: tuple[int, ...] = (64, 128, 256, 512)
    strides: tuple[int, ...] = (2, 2, 2, 1)
    scales: int = Field(default=3, ge=1)
    """Levels of the image pyramid, one network each."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.widths) != len(self.strides):
            raise ValueError(f"widths has {len(self.widths)} entries and strides {len(self.strides)}")
        return self


class ModelConfig(Config):
    """The base model (3.1, A.1). The defaults are `paper-512`."""

    name: str = "paper-512"
    image_size: int = 512
    volume_channels: int = 96
    volume_depth: int = 16
    descriptor: int = 512
    descriptor_grid: int = 4
    groups: int = 32
    weight_standardization: Literal["all", "first", "none"] = "all"
    use_descriptor: bool = True
    """Ablation (B.4 a): without e_s."""
    use_source_warp: bool = True
    """Ablation (B.4 b): without w_s->."""
    predict_matte: bool = False
    """Ours: G_2D's fourth output is alpha, so that no matting network runs per frame."""
    appearance: AppearanceConfig = AppearanceConfig()
    motion: MotionConfig = MotionConfig()
    warp: WarpConfig = WarpConfig()
    generator_3d: Generator3DConfig = Generator3DConfig()
    generator_2d: Generator2DConfig = Generator2DConfig()

    @property
    def volume_size(self) -> int:
        """Height and width of v_s at `image_size`."""
        return self.image_size // 2 ** sum(self.appearance.pool)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        up = 2 ** len(self.generator_2d.widths)
        if self.volume_size * up != self.image_size:
            raise ValueError(
                f"generator_2d doubles a {self.volume_size} px volume {len(self.generator_2d.widths)} times, to "
                f"{self.volume_size * up} px, but image_size is {self.image_size}: match appearance.pool to its widths"
            )
        return self


class GazeConfig(Config):
    """The gaze and blink network (B.5): a VGG-16 eye encoder, an MLP for keypoints, two heads."""

    name: str = "paper"
    eye_size: int = 64
    """Side of an eye's crop, pixels."""
    eye_cm: float = 4.8
    """Side of that crop on the head, centimetres."""
    widths: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    """Convolutions of every stage; a 2x2 pooling follows each."""
    eyes: int = 256
    keypoints: int = 64
    hidden: int = 128
    pretrained: bool = True
    """Start the eye encoder from ImageNet's VGG-16; needs the paper's widths."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.eye_size % 2 ** len(self.widths):
            raise ValueError(
                f"eye_size {self.eye_size} cannot be halved {len(self.widths)} times: one pooling per stage"
            )
        return self


class DataConfig(Config):
    """Where pairs come from and how they are made."""

    path: str = ""
    validation: str = ""
    """A second folder of shards with other people; "" takes none."""
    workers: int = 2
    cross_identity: float = Field(default=0.0, ge=0, le=1)
    """Share of pairs whose driver is another person with the same motion (exact target; synthetic clips only)."""
    flip: bool = True
    """Mirror half of the pairs, source, target and driver together (B.1)."""
    driver_augmentation: bool = True
    """Ablation (B.4 c): without the random warp and the severe colour jitter of the driver (B.1)."""
    predict_background: bool = False
    """Ablation (B.4 d): images keep their background, which the model then has to predict."""
    random_background: bool = False
    """Drivers keep a background that is not the target's, as at inference without a matting network per frame."""


class LossConfig(Config):
    """Weights; 0 switches a loss off. The paper's where the paper has them (4.1)."""

    reconstruction: float = 0.0
    reconstruction_emphasis: float = 0.0
    """How much more mouth and eyes count in it (synthetic clips only)."""
    perceptual: float = 20.0
    perceptual_network: Literal["vgg19", "effnet-lite0"] = "vgg19"
    perceptual_scales: int = 4
    face: float = 4.0
    """VGGFace features of the face crop."""
    gaze: float = 5.0
    """Features of the gaze network's eye encoder."""
    gaze_network: str = "gaze.safetensors"
    """Weights that `megaportraits train gaze` wrote."""
    adversarial: float = 1.0
    feature_matching: float = 40.0
    contrastive: float = 2.0
    contrastive_scale: float = 5.0
    contrastive_margin: float = 0.2
    contrastive_margin_on: Literal["positives", "both"] = "positives"
    contrastive_every: int = Field(default=1, ge=1)
    """Steps between two contrastive terms (each costs a second generator pass and re-encoding)."""
    matte: float = 0.0
    pose: float = 0.0
    """Supervises the head-pose network on labels while the base trains."""
    expression: float = 0.0
    """Auxiliary read-out of known expression coefficients, gaze and blink from z."""
    warp: float = 0.0
    """Auxiliary supervision of both warps by known canonical coordinates (synthetic clips only)."""


class OptimConfig(Config):
    """AdamW (Adam, without weight decay) and a schedule (4.1, B.1; B.5)."""

    steps: int = 300_000
    batch_size: int = Field(default=16, ge=1)
    """Of one step: all processes and accumulated parts together."""
    accumulate: int = Field(default=1, ge=1)
    """Parts in which a process takes its share of the batch, to save memory."""
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    pct_start: float = Field(default=0.1, gt=0, lt=1)
    """Share of the steps in which one-cycle rises."""
    spectral_norm: bool = True
    """On the generators (B.1); folded into plain weights when saving."""
    learning_rate: float = 2e-4
    final_learning_rate: float = 1e-6
    warmup_steps: int = 0
    betas: tuple[float, float] = (0.5, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    clip_grad_norm: float = 0.0
    """0 does not clip."""
    ema_decay: float = 0.999


class RunConfig(Config):
    """How a run behaves."""

    seed: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    checkpoint_3d: bool = False
    """Recompute the 3D parts in the backward pass: less memory, more time, the same gradients."""
    tensorboard: bool = True
    """Event files beside `stats.jsonl`."""
    train_size: int = 0
    """Side of training images; 0 is the model's image_size. Smaller first learns faster."""
    teacher_pose: bool = False
    """Warp with the labelled poses instead of the head-pose network's."""
    log_every: int = 20
    sample_every: int = 500
    checkpoint_minutes: float = 3.0
    keep_checkpoints: int = 2


class TrainBaseConfig(Config):
    """`megaportraits train base`."""

    model: ModelConfig = ModelConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()


class HeadPoseConfig(Config):
    """The head-pose network alone; it fits into a base model whose `of` is equal."""

    width: int = 64
    size: int = 256
    groups: int = 32
    weight_standardization: Literal["all", "first", "none"] = "all"

    @classmethod
    def of(cls, model: ModelConfig) -> Self:
        """What a base model wants."""
        return cls(
            width=model.motion.pose_width,
            size=model.motion.pose_size,
            groups=model.groups,
            weight_standardization=model.weight_standardization,
        )


class FrameConfig(Config):
    """Single frames of clips, for the networks that look at one image."""

    path: str = ""
    validation: str = ""
    """A second folder of shards with other people; "" takes none."""
    size: int = 512
    """Side of the images, pixels."""
    workers: int = 2
    labels: str = ""
    """A teacher's label file (`docs/training.md`), which replaces the clips' gaze and blink; "" takes none."""
    flip: bool = True


class GazeOptimConfig(OptimConfig):
    """B.5: Adam and one-cycle."""

    steps: int = 0
    """0: as many as `epochs` need."""
    batch_size: int = Field(default=64, ge=1)
    schedule: Literal["cosine", "one-cycle"] = "one-cycle"
    learning_rate: float = 0.8e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    spectral_norm: bool = False


class HeadPoseOptimConfig(OptimConfig):
    """The base model's, with the usual betas of a network that no adversary judges."""

    steps: int = 0
    """0: as many as `epochs` need."""
    batch_size: int = Field(default=64, ge=1)
    betas: tuple[float, float] = (0.9, 0.999)
    spectral_norm: bool = False


class TrainGazeConfig(Config):
    """`megaportraits train gaze`; the defaults are the paper's (B.5)."""

    model: GazeConfig = GazeConfig()
    data: FrameConfig = FrameConfig()
    optim: GazeOptimConfig = GazeOptimConfig()
    epochs: int = Field(default=60, ge=1)
    """How often every frame is seen, where optim.steps is 0."""
    w_mae: float = 15.0
    w_mse: float = 10.0
    run: RunConfig = RunConfig()


class TrainHeadPoseConfig(Config):
    """`megaportraits train head-pose`."""

    model: HeadPoseConfig = HeadPoseConfig()
    data: FrameConfig = FrameConfig()
    optim: HeadPoseOptimConfig = HeadPoseOptimConfig()
    epochs: int = Field(default=20, ge=1)
    """How often every frame is seen, where optim.steps is 0."""
    run: RunConfig = RunConfig()


C = TypeVar("C", bound=Config)


def config_names() -> list[str]:
    """Names of the configs that ship with the package."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def load_config(schema: type[C], source: str | Path, overrides: Sequence[str] = ()) -> C:
    """Read a shipped config by name, or a YAML file, and apply `a.b=c` overrides.

    A file may say `extends: OTHER`, a shipped name or a file beside it, and then gives only what differs.

    Raises:
        ConfigError: unknown name, unreadable YAML, or all invalid keys and values together.
    """
    data = _read(source, ())
    for override in overrides:
        _apply(data, override)
    return parse_config(schema, data, str(source))


def parse_config(schema: type[C], data: dict[str, Any], where: str) -> C:
    """Validate a plain dict; `where` names it in the error."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or '(root)'}: {e['msg']} (got {e['input']!r:.80})" for e in error.errors()
        ]
        raise ConfigError(
            f"{where}: {error.error_count()} problem(s):\n" + "\n".join(lines),
            fix=f"Keys and defaults are in {schema.__name__} of megaportraits/config.py.",
        ) from error


def _folder() -> Any:
    return resources.files("megaportraits") / "configs"


def _read(source: str | Path, below: tuple[str, ...]) -> dict[str, Any]:
    """A file's plain content, laid over that of the file it extends; `below` are the files that led here."""
    if str(source) in below:
        raise ConfigError(f"{source} extends itself by way of {' -> '.join(below)}", fix="Break the circle.")
    data = _parse(source)
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError(f"{source}: extends is {base!r}, expected a name or file", fix="For example extends: nano")
    beside = Path(source).parent / base
    return _merge(_read(beside if beside.is_file() else base, (*below, str(source))), data)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key; everything else is replaced."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if both else value
    return out


def _parse(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise ConfigError(
                f"config file {path} does not exist",
                fix="Give a .yaml file or one of: " + ", ".join(config_names()),
            )
        text = path.read_text(encoding="utf-8")
    else:
        entry = _folder() / f"{source}.yaml"
        if not entry.is_file():
            raise ConfigError(f"no config named {str(source)!r}", fix="Shipped configs: " + ", ".join(config_names()))
        text = entry.read_text(encoding="utf-8")
    try:
        data = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}", fix="Check indentation and colons there.") from error
    if not isinstance(data, dict):
        raise ConfigError(
            f"{source}: expected a mapping of sections, got {type(data).__name__}",
            fix="See the shipped configs.",
        )
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form a.b=c", fix="For example --set optim.batch_size=8")
    *parents, last = key.split(".")
    node = data
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(
                f"override {override!r}: {parent!r} is a value, not a section", fix="Check the dotted path."
            )
    node[last] = yaml.safe_load(value)
