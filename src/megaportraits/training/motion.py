"""Pre-training of E_mtn on labelled frames, before the base model. Not in the paper.

The paper pre-trains the head-pose half only; the base model learns z from scratch, by reconstruction alone. The labels
of synthetic frames are exact, and a step of E_mtn alone costs a fraction of a full step (`docs/training-log.md`). After
pre-training, z encodes lips, lids and gaze before the warps learn to use it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from megaportraits.config import TrainBaseConfig
from megaportraits.data.batches import PairBatch
from megaportraits.models.motion import Expression, MotionEncoder, infer_motion
from megaportraits.models.storage import save_motion
from megaportraits.nn.blocks import BlockStyle
from megaportraits.ops.geometry import geodesic_distance
from megaportraits.ops.warping import Pose
from megaportraits.training.loop import fit
from megaportraits.training.pairs import run_pairs
from megaportraits.training.readout import pose_loss, readout_loss, readout_weights
from megaportraits.training.stage import Losses, TrainingStage
from megaportraits.training.views import make_views

REPORTED = ("jawOpen", "eyeBlink_L", "mouthSmile_L", "mouthPucker")


class ReadableMotion(nn.Module):
    """E_mtn and the linear expression readout of z. Blendshapes are not used here, so residuals are 0."""

    def __init__(self, config: TrainBaseConfig, labels: int) -> None:
        super().__init__()
        style = BlockStyle(config.model.groups, config.model.weight_standardization)
        self.encoder = MotionEncoder(config.model, style)
        self.readout = nn.Linear(config.model.motion.z, labels)

    @property
    def motion(self) -> MotionEncoder:
        """The encoder, under the name that `infer_motion` uses."""
        return self.encoder

    def read(self, expression: Expression) -> Tensor:
        """The labels (B, n) that the readout predicts from z."""
        labels: Tensor = self.readout(expression.z)
        return labels.float()


class MotionStage(TrainingStage[ReadableMotion, PairBatch, PairBatch]):
    """E_mtn with an expression readout, and their losses: of head pose, and of expression labels with gaze."""

    phases = ("network",)
    file_name, validation_count = "motion.safetensors", 256

    def __init__(self, config: TrainBaseConfig, expression_names: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.expression_names = config, expression_names
        self.model = ReadableMotion(config, len(expression_names) + 2)

    def weights(self) -> dict[str, float]:
        """The config's weights of the two losses, 1 where the config has 0. The losses share no parameters."""
        return {"pose": self.config.loss.pose or 1.0, "expression": self.config.loss.expression or 1.0}

    def forward(self, phase: str, batch: PairBatch, step: int, generator: torch.Generator) -> Losses:
        """The losses of head pose and readout on sources and augmented drivers."""
        del phase, step
        if self.config.data.flip:
            batch = batch.mirror_half(generator, self.expression_names)
        views = make_views(batch, self.config, generator)
        poses = Pose.cat([batch.source.pose, batch.target.pose])
        labels = torch.cat([batch.source.readout, batch.target.readout])
        predicted = self.model.encoder.encode_pose(torch.cat([views.source_full, views.driver]))
        motion = infer_motion(self.model, torch.cat([views.source_full, views.driver_augmented]), poses)
        read = self.model.read(motion.expression)
        return {
            "pose": pose_loss(predicted, poses),
            "expression": readout_loss(read, labels, readout_weights(self.expression_names).to(read)),
        }

    def sample(self, model: ReadableMotion, batch: PairBatch) -> tuple[None, dict[str, float]]:
        """Head-pose error in degrees, and correlations of the readout with the labels, on mildly augmented drivers."""
        views = make_views(batch, self.config, torch.Generator().manual_seed(0))
        motion = infer_motion(model, views.driver)
        angle = torch.rad2deg(geodesic_distance(motion.pose.rotation, batch.target.rotation))
        read, labels = model.read(motion.expression), batch.target.readout
        numbers = {"degrees": float(angle.mean())}
        columns = [n for n in REPORTED if n in self.expression_names]
        index = [self.expression_names.index(n) for n in columns] + [-2, -1]
        for name, column in zip([*columns, "gaze_yaw", "gaze_pitch"], index, strict=True):
            numbers[f"corr_{name}"] = float(torch.corrcoef(torch.stack([read[:, column], labels[:, column]]))[0, 1])
        return None, numbers

    def save(self, path: Path, model: ReadableMotion, *, step: int) -> None:
        """Write the averaged encoder in float16, without the readout."""
        save_motion(path, model.encoder, self.config.model, notes={"steps": str(step)})


def train_motion(config: TrainBaseConfig, out: Path, *, resume: bool = False) -> int:
    """Train E_mtn on synthetic clips; returns the step reached.

    `train base --motion` takes the weights `out/motion.safetensors`.
    """
    with run_pairs(config, MotionStage.validation_count) as (training, validation):
        torch.manual_seed(config.run.seed)
        stage = MotionStage(config, training.expression_names)
        return fit(stage, training, validation, config, out, resume=resume)
