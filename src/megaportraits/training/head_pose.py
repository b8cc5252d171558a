"""Training of the head-pose network, the pre-trained half of E_mtn (A.1), on labelled single frames.

The labels of synthetic clips are exact. Those of real clips (kind "real") come from the mesh fit.
"""

from __future__ import annotations

from pathlib import Path

import torch

from megaportraits.config import HeadPoseConfig, TrainHeadPoseConfig
from megaportraits.data.batches import FrameBatch
from megaportraits.models.head_pose import HeadPoseNet
from megaportraits.models.storage import save_head_pose
from megaportraits.nn.blocks import BlockStyle
from megaportraits.ops.geometry import geodesic_distance
from megaportraits.training.frames import augment_frames, run_frames
from megaportraits.training.loop import fit
from megaportraits.training.stage import Losses, TrainingStage


class HeadPoseStage(TrainingStage[HeadPoseNet, FrameBatch, FrameBatch]):
    """The head-pose network and its losses: geodesic angle of rotation (radians), L1 of translation and log scale."""

    phases = ("network",)
    file_name, validation_count = "head_pose.safetensors", 256

    def __init__(self, config: TrainHeadPoseConfig) -> None:
        super().__init__()
        self.config = config
        self.model = make_head_pose(config.model)

    def weights(self) -> dict[str, float]:
        """Equal weights: a radian, one crop unit (half a crop), and a factor e in scale cost the same."""
        return {"rotation": 1.0, "translation": 1.0, "scale": 1.0}

    def forward(self, phase: str, batch: FrameBatch, step: int, generator: torch.Generator) -> Losses:
        """The three losses of one batch of `data.frames`."""
        del phase, step
        batch = augment_frames(batch, generator, mirrors=self.config.data.flip)
        predicted, labels = self.model(batch.image), batch.pose
        return {
            "rotation": geodesic_distance(predicted.rotation, labels.rotation).mean(),
            "translation": (predicted.translation - labels.translation).abs().sum(-1).mean(),
            "scale": (predicted.scale.log() - labels.scale.log()).abs().mean(),
        }

    def sample(self, model: HeadPoseNet, batch: FrameBatch) -> tuple[None, dict[str, float]]:
        """Errors on frames without augmentation: rotation in degrees, translation in crop units, scale as a factor.

        `degrees_real` is the rotation error on real clips alone.
        """
        with torch.no_grad():
            predicted, labels = model(batch.image.float() / 255), batch.pose
        angle = torch.rad2deg(geodesic_distance(predicted.rotation, labels.rotation))
        numbers = {
            "degrees": float(angle.mean()),
            "translation": float((predicted.translation - labels.translation).norm(dim=-1).mean()),
            "scale": float((predicted.scale / labels.scale).log().abs().mean().exp()),
        }
        if batch.real.any():
            numbers["degrees_real"] = float(angle[batch.real].mean())
        return None, numbers

    def save(self, path: Path, model: HeadPoseNet, *, step: int) -> None:
        """Write the averaged network in float16."""
        save_head_pose(path, model, self.config.model, notes={"steps": str(step)})


def make_head_pose(config: HeadPoseConfig) -> HeadPoseNet:
    """Make a network with the same layers as in a base model's E_mtn."""
    return HeadPoseNet(config.width, config.size, BlockStyle(config.groups, config.weight_standardization))


def train_head_pose(config: TrainHeadPoseConfig, out: Path, *, resume: bool = False) -> int:
    """Train the head-pose network on the frames of clips; returns the step reached.

    `train base --head-pose` takes the weights `out/head_pose.safetensors`.
    """
    config, training, validation = run_frames(config)
    torch.manual_seed(config.run.seed)
    return fit(HeadPoseStage(config), training, validation, config, out, resume=resume)
