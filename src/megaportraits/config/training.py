"""Configs of training runs: data, losses, optimizer, behaviour."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from megaportraits.config.base import (
    Config,
    Decay,
    Every,
    Fraction,
    LossWeight,
    Pixels,
    Processes,
    Rate,
    Seed,
    Steps,
    Workers,
)
from megaportraits.config.model import (
    ComponentLandmarkConfig,
    DiscriminatorConfig,
    GazeConfig,
    HeadPoseConfig,
    ModelConfig,
)


class DataConfig(Config):
    """Where pairs come from and how they are made."""

    path: str = ""
    """A folder of shards, the address of one, or a mix of both (`docs/training.md`)."""
    validation: str = ""
    """A second folder of shards with other people; "" takes none."""
    workers: Workers = 2
    stream_shards: int = Field(default=4, ge=1, le=1024)
    """Of streamed data: shards that each loading process holds at a time."""
    stream_draws: Every = 256
    """Of streamed data: pairs that it makes until it moves on by one shard."""
    cross_identity: Fraction = 0.0
    """Share of pairs whose driver is another person with the same motion (exact target; synthetic clips only)."""
    expressive: Fraction = 0.0
    """Share of pairs that prefer targets whose expression is not the source's (synthetic clips only)."""
    across_clips: bool = False
    """Source and target of real clips come from all clips of one video and person, not from one clip of seconds."""
    flip: bool = True
    """Mirror half of the pairs, source, target and driver together (B.1)."""
    driver_augmentation: bool = True
    """Ablation (B.4 c): without the random warp and the severe colour jitter of the driver (B.1)."""
    driver_warp: Literal["grid", "thin-plate"] = "grid"
    """How the driver's face loses its shape (B.1): by a smoothly interpolated grid, whose displacement is constant on
    eyes and mouth, or by thin-plate splines as in the paper (`data/thin_plate.py`)."""
    random_background: bool = False
    """Drivers keep a background that is not the target's, as at inference without a matting network per frame."""


class PictureLossConfig(Config):
    """Weights of losses on pictures; 0 switches a loss off. The paper's where the paper has them (4.1)."""

    reconstruction: LossWeight = 0.0
    """Ours: L1."""
    reconstruction_emphasis: LossWeight = 0.0
    """How much more mouth and eyes count in it: by the surface that synthetic frames know, by the pose of real ones."""
    matte: LossWeight = 0.0
    """Ours: L1 of alpha, for models that predict one."""
    perceptual: LossWeight = 20.0
    perceptual_network: Literal["vgg19", "effnet-lite0"] = "vgg19"
    perceptual_scales: int = Field(default=4, ge=1, le=8)
    perceptual_size: int = Field(default=0, ge=0, le=8192)
    """Side at which that network compares pictures, pixels, where they are larger; 0: at their own."""
    face: LossWeight = 4.0
    """VGGFace features of the face crop."""
    gaze: LossWeight = 5.0
    """Features of the gaze network's eye encoder."""
    gaze_network: str = "gaze.safetensors"
    """Weights that `megaportraits train gaze` wrote, or a shipped name: nano."""
    adversarial: LossWeight = 1.0
    feature_matching: LossWeight = 40.0


class LossConfig(PictureLossConfig):
    """The base model's."""

    contrastive: LossWeight = 2.0
    contrastive_scale: LossWeight = 5.0
    contrastive_margin: LossWeight = 0.2
    contrastive_every: Every = 1
    """Steps between two contrastive terms (each costs a second generator pass and re-encoding)."""
    pose: LossWeight = 0.0
    """Supervises the head-pose network on labels while the base trains."""
    expression: LossWeight = 0.0
    """Auxiliary read-out of known expression coefficients, gaze and blink from z."""
    warp: LossWeight = 0.0
    """Auxiliary supervision of both warps by known canonical coordinates (synthetic clips only)."""
    copied: LossWeight = 0.0
    """Of the source's moved pixels against the target's foreground (with model.source_skip)."""
    painted: LossWeight = 0.0
    """Of what G_2D paints where the copy is wrong (with model.source_skip): else it would hardly learn to."""
    flow: LossWeight = 0.0
    """Of the flow along which pixels are copied against the known one (model.source_skip; synthetic clips only)."""
    landmarks: LossWeight = 0.0
    """Of the same flow where landmarks are known (model.source_skip; real clips only)."""
    component_adversarial: LossWeight = 0.0
    """Ours: hinge of discriminators that see crops of eyes and mouth only."""
    component_matching: LossWeight = 0.0
    """Ours: feature matching of the same."""
    component_perceptual: LossWeight = 0.0
    """Ours: features of `perceptual_network` in the same crops, at the pictures' own resolution."""
    component_landmarks: LossWeight = 0.0
    """Ours: distance, in centimetres, of lids, irises and lips between prediction and target, as a network finds them
    in both."""
    landmark_network: str = "component_landmarks.safetensors"
    """Weights that `megaportraits train component-landmarks` wrote, or a shipped name: nano."""
    surface: LossWeight = 0.0
    """Of the visible surface's depth against the known one (with model.source_skip; synthetic clips only)."""


class OptimConfig(Config):
    """AdamW (Adam, without weight decay) and a schedule (4.1, B.1; B.5)."""

    steps: Steps = 300_000
    parts: tuple[str, ...] = ()
    """Parts of the model that learn, by their names in its class, for fine-tuning; none named: all."""
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Of one step: all processes and accumulated parts together."""
    accumulate: int = Field(default=1, ge=1, le=65_536)
    """Parts in which a process takes its share of the batch, to save memory."""
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    pct_start: float = Field(default=0.1, gt=0, lt=1)
    """Share of the steps in which one-cycle rises."""
    spectral_norm: bool = True
    """On the generators (B.1); folded into plain weights when saving."""
    spectral_norm_standardized: bool = True
    """With it: also on weight-standardised convolutions, of the standardised weight."""
    learning_rate: Rate = 2e-4
    final_learning_rate: Rate = 1e-6
    warmup_steps: Steps = 0
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    eps: float = Field(default=1e-8, gt=0, le=1)
    weight_decay: Rate = 1e-2
    clip_grad_norm: LossWeight = 0.0
    """0 does not clip."""
    ema_decay: Fraction = 0.999


class RunConfig(Config):
    """How a run behaves."""

    seed: Seed = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = "32-true"
    """auto: bf16-mixed where the machine is fast in it, else 32-true."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: Processes = 1
    """Processes on each machine."""
    nodes: Processes = 1
    """Machines, each started by torchrun."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """fsdp: parameters, averages and optimizer states are cut into as many pieces as there are processes."""
    compile: bool = False
    """`torch.compile` for the heavy parts: minutes at the start; see `benchmarks/train_step.py`."""
    channels_last: bool = False
    """Images lie in memory pixel by pixel: faster on some machines in 32-true, the same numbers but for rounding."""
    checkpoint_3d: bool = False
    """Recompute the 3D parts in the backward pass: less memory, more time, the same gradients."""
    tensorboard: bool = True
    """Event files beside `stats.jsonl`."""
    teacher_pose: bool = False
    """Warp with the labelled poses instead of the head-pose network's."""
    log_every: Every = 20
    sample_every: Every = 500
    checkpoint_minutes: float = Field(default=3.0, ge=0, le=1e6)
    keep_checkpoints: int = Field(default=2, ge=1, le=1_000_000)


class TrainBaseConfig(Config):
    """`megaportraits train base`."""

    model: ModelConfig = ModelConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    component_discriminator: DiscriminatorConfig = DiscriminatorConfig(
        widths=(32, 64, 128), strides=(2, 2, 1), scales=1
    )
    """Of crops of eyes and mouth (with loss.component_adversarial or loss.component_matching)."""
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()


class FrameConfig(Config):
    """Single frames of clips, for the networks that look at one image."""

    path: str = ""
    validation: str = ""
    """A second folder of shards with other people; "" takes none."""
    size: Pixels = 512
    """Side of the images, pixels."""
    workers: Workers = 2
    labels: str = ""
    """A teacher's label file (`docs/training.md`), which replaces the clips' gaze and blink; "" takes none."""
    flip: bool = True


class GazeOptimConfig(OptimConfig):
    """B.5: Adam and one-cycle."""

    steps: Steps = 0
    """0: as many as `epochs` need."""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    schedule: Literal["cosine", "one-cycle"] = "one-cycle"
    learning_rate: Rate = 0.8e-3
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: Rate = 0.0
    spectral_norm: bool = False


class HeadPoseOptimConfig(OptimConfig):
    """The base model's, with the usual betas of a network that no adversary judges."""

    steps: Steps = 0
    """0: as many as `epochs` need."""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    spectral_norm: bool = False


class TrainGazeConfig(Config):
    """`megaportraits train gaze`; the defaults are the paper's (B.5)."""

    model: GazeConfig = GazeConfig()
    data: FrameConfig = FrameConfig()
    optim: GazeOptimConfig = GazeOptimConfig()
    epochs: int = Field(default=60, ge=1, le=1_000_000)
    """How often every frame is seen, where optim.steps is 0."""
    w_mae: LossWeight = 15.0
    w_mse: LossWeight = 10.0
    run: RunConfig = RunConfig()


class ComponentLandmarkOptimConfig(OptimConfig):
    """A small network without an adversary, one-cycle."""

    steps: Steps = 0
    """0: as many as `epochs` need."""
    batch_size: int = Field(default=48, ge=1, le=65_536)
    schedule: Literal["cosine", "one-cycle"] = "one-cycle"
    learning_rate: Rate = 1.5e-3
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    clip_grad_norm: LossWeight = 2.0
    spectral_norm: bool = False
    ema_decay: Fraction = 0.99


class TrainComponentLandmarksConfig(Config):
    """`megaportraits train component-landmarks`."""

    model: ComponentLandmarkConfig = ComponentLandmarkConfig()
    data: FrameConfig = FrameConfig(size=256)
    optim: ComponentLandmarkOptimConfig = ComponentLandmarkOptimConfig()
    epochs: int = Field(default=6, ge=1, le=1_000_000)
    """How often every frame is seen, where optim.steps is 0."""
    run: RunConfig = RunConfig()


class TrainHeadPoseConfig(Config):
    """`megaportraits train head-pose`."""

    model: HeadPoseConfig = HeadPoseConfig()
    data: FrameConfig = FrameConfig()
    optim: HeadPoseOptimConfig = HeadPoseOptimConfig()
    epochs: int = Field(default=20, ge=1, le=1_000_000)
    """How often every frame is seen, where optim.steps is 0."""
    run: RunConfig = RunConfig()
