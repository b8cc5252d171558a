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
    """The data sets of pairs, and how pairs are sampled and augmented."""

    path: str = ""
    """A folder of shards, the address of one, or a mixture of both (`docs/training.md`)."""
    validation: str = ""
    """A second folder of shards, with other people, for validation; "" for none."""
    workers: Workers = 2
    stream_shards: int = Field(default=4, ge=1, le=1024)
    """For streamed data: number of shards that each loading process holds at a time."""
    stream_draws: Every = 256
    """For streamed data: number of pairs from the held shards before the next shard replaces one of them."""
    cross_identity: Fraction = 0.0
    """Share of pairs whose driver is another person with the same motion (exact target; synthetic clips only)."""
    expressive: Fraction = 0.0
    """Share of pairs whose target is sampled for an expression unlike the source's (synthetic clips only)."""
    across_clips: bool = False
    """Sample source and target of real data from all clips of one video and person, not from one short clip."""
    flip: bool = True
    """Mirror half of the pairs; source, target and driver are mirrored together (B.1)."""
    driver_augmentation: bool = True
    """Random warp and severe colour jitter of the driver (B.1). False is the ablation B.4 c."""
    driver_warp: Literal["grid", "thin-plate"] = "grid"
    """The random warp that hides the driver's face shape (B.1). "grid" interpolates a grid smoothly and keeps the
    displacement constant on eyes and mouth. "thin-plate" uses thin-plate splines, as the paper
    (`data/thin_plate.py`)."""
    random_background: bool = False
    """Drivers have a background other than the target's, as at inference without a matting network for each frame."""


class PictureLossConfig(Config):
    """Weights of losses on images; 0 switches a loss off. The defaults are the paper's where it gives them (4.1)."""

    reconstruction: LossWeight = 0.0
    """Ours: L1."""
    reconstruction_emphasis: LossWeight = 0.0
    """Additional weight of mouth and eyes in the reconstruction loss. The coordinate map locates them in
    synthetic frames, the head pose in real ones."""
    matte: LossWeight = 0.0
    """Ours: L1 of alpha, for models that predict one."""
    perceptual: LossWeight = 20.0
    perceptual_network: Literal["vgg19", "effnet-lite0"] = "vgg19"
    perceptual_scales: int = Field(default=4, ge=1, le=8)
    perceptual_size: int = Field(default=0, ge=0, le=8192)
    """Side to which larger images are downsampled for that network, pixels; 0 compares them at full size."""
    face: LossWeight = 4.0
    """Perceptual loss with VGGFace features of the face crop."""
    gaze: LossWeight = 5.0
    """Perceptual loss with features of the gaze network's eye encoder."""
    gaze_network: str = "gaze.safetensors"
    """Weights that `megaportraits train gaze` wrote, or the name of shipped ones: nano."""
    adversarial: LossWeight = 1.0
    feature_matching: LossWeight = 40.0


class LossConfig(PictureLossConfig):
    """Weights of the base model's losses; 0 switches a loss off."""

    contrastive: LossWeight = 2.0
    contrastive_scale: LossWeight = 5.0
    contrastive_margin: LossWeight = 0.2
    contrastive_every: Every = 1
    """Interval in steps between contrastive terms, each of which needs a second generator pass and re-encoding."""
    pose: LossWeight = 0.0
    """Supervision of the head-pose network by labels during base training."""
    expression: LossWeight = 0.0
    """Error of the expression readout: expression labels, gaze and blink from z."""
    warp: LossWeight = 0.0
    """Error of both warps against known canonical coordinates (synthetic clips only)."""
    copied: LossWeight = 0.0
    """Difference between the moved source and the target's foreground (with model.source_skip)."""
    painted: LossWeight = 0.0
    """Error of the pixels that G_2D generates itself, weighted by the copy's error (with model.source_skip).
    Without it G_2D hardly learns to generate what the source lacks."""
    flow: LossWeight = 0.0
    """Error of the source skip's flow against the known flow (with model.source_skip; synthetic clips only)."""
    landmarks: LossWeight = 0.0
    """Error of the source skip's flow at known landmarks (with model.source_skip; real clips only)."""
    component_adversarial: LossWeight = 0.0
    """Ours: hinge loss of discriminators on crops of eyes and mouth."""
    component_matching: LossWeight = 0.0
    """Ours: feature matching of the same discriminators."""
    component_perceptual: LossWeight = 0.0
    """Ours: features of `perceptual_network` in the same crops, at the images' full resolution."""
    component_landmarks: LossWeight = 0.0
    """Ours: distance in centimetres between the landmarks of lids, irises and lips that a network finds in prediction
    and target."""
    landmark_network: str = "component_landmarks.safetensors"
    """Weights that `megaportraits train component-landmarks` wrote, or the name of shipped ones: nano."""
    surface: LossWeight = 0.0
    """Error of the visible surface's depth against the known one (with model.source_skip; synthetic clips only)."""


class OptimConfig(Config):
    """AdamW (Adam, without weight decay) and a schedule (4.1, B.1; B.5)."""

    steps: Steps = 300_000
    parts: tuple[str, ...] = ()
    """For fine-tuning: names of the model's submodules that are trained; empty trains all."""
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Batch size of one step, summed over all processes and accumulated parts."""
    accumulate: int = Field(default=1, ge=1, le=65_536)
    """Gradient accumulation: parts into which each process splits its share of the batch, to save memory."""
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    pct_start: float = Field(default=0.1, gt=0, lt=1)
    """Share of the steps in which the one-cycle schedule raises the learning rate."""
    spectral_norm: bool = True
    """Spectral norm on the generators (B.1). Saving folds it into plain weights."""
    spectral_norm_standardized: bool = True
    """With spectral_norm: apply it to weight-standardised convolutions, too, after the standardisation."""
    learning_rate: Rate = 2e-4
    final_learning_rate: Rate = 1e-6
    warmup_steps: Steps = 0
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    eps: float = Field(default=1e-8, gt=0, le=1)
    weight_decay: Rate = 1e-2
    clip_grad_norm: LossWeight = 0.0
    """Largest norm of the gradient; 0 does not clip."""
    ema_decay: Fraction = 0.999


class RunConfig(Config):
    """Settings of a run: precision, devices, logging, checkpoints."""

    seed: Seed = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = "32-true"
    """auto: bf16-mixed where the machine computes fast in bfloat16, else 32-true."""
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: Processes = 1
    """Number of processes on each machine."""
    nodes: Processes = 1
    """Number of machines; torchrun starts the processes on each."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """fsdp: shard parameters, running averages and optimizer states over the processes."""
    compile: bool = False
    """Use `torch.compile` for the slowest parts. Compiling takes minutes; see `benchmarks/train_step.py`."""
    channels_last: bool = False
    """Channels-last memory layout for images: faster on some machines in 32-true; same results except for rounding."""
    checkpoint_3d: bool = False
    """Activation checkpointing of the 3D parts: less memory, more time, the same gradients."""
    tensorboard: bool = True
    """Write TensorBoard event files beside `stats.jsonl`."""
    teacher_pose: bool = False
    """Warp with the labelled poses instead of those of the head-pose network."""
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
    """The discriminators of crops of eyes and mouth (with loss.component_adversarial or loss.component_matching)."""
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()


class FrameConfig(Config):
    """Single frames of clips, for training networks that take one image."""

    path: str = ""
    validation: str = ""
    """A second folder of shards, with other people, for validation; "" for none."""
    size: Pixels = 512
    """Side of the images, pixels."""
    workers: Workers = 2
    labels: str = ""
    """A label file of a teacher (`docs/training.md`) that replaces the clips' gaze and blink; "" for none."""
    flip: bool = True


class FrameOptimConfig(OptimConfig):
    """The optimizer of networks that take single frames: betas for training without a discriminator."""

    steps: Steps = 0
    """0: as many as `epochs` need."""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    spectral_norm: bool = False


class GazeOptimConfig(FrameOptimConfig):
    """The gaze network's optimizer (B.5): Adam with the one-cycle schedule."""

    schedule: Literal["cosine", "one-cycle"] = "one-cycle"
    learning_rate: Rate = 0.8e-3
    weight_decay: Rate = 0.0


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


class ComponentLandmarkOptimConfig(FrameOptimConfig):
    """The component landmark network's optimizer: AdamW with the one-cycle schedule."""

    batch_size: int = Field(default=48, ge=1, le=65_536)
    schedule: Literal["cosine", "one-cycle"] = "one-cycle"
    learning_rate: Rate = 1.5e-3
    clip_grad_norm: LossWeight = 2.0
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
    optim: FrameOptimConfig = FrameOptimConfig()
    epochs: int = Field(default=20, ge=1, le=1_000_000)
    """How often every frame is seen, where optim.steps is 0."""
    run: RunConfig = RunConfig()
