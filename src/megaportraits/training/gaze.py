"""Training of the gaze and blink network (B.5): on exact synthetic labels, or on a teacher's label file."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from megaportraits import weights
from megaportraits.config import TrainGazeConfig
from megaportraits.data.batches import FrameBatch
from megaportraits.losses.gaze import mae_mse
from megaportraits.models.gaze import EyeEncoder, GazeNet, GazeOutput, head_keypoints, relative_keypoints
from megaportraits.models.storage import save_gaze
from megaportraits.nn.checkpoints import load_published
from megaportraits.ops.warping import Pose
from megaportraits.training.frames import augment_frames, imprecise_pose, run_frames
from megaportraits.training.loop import fit
from megaportraits.training.stage import Losses, TrainingStage

_PICTURED = 12
_SHIFT_CM, _ZOOM = 0.3, 0.05
"""Errors of the head pose in training; see `imprecise_pose`."""


class GazeStage(TrainingStage[GazeNet, FrameBatch, FrameBatch]):
    """The gaze network and its losses: MAE and MSE of gaze (radians) and blink, weighted 15 and 10."""

    phases = ("network",)
    file_name, validation_count = "gaze.safetensors", 256

    def __init__(self, config: TrainGazeConfig) -> None:
        super().__init__()
        self.config = config
        self.model = GazeNet(config.model)
        if config.model.pretrained:
            load_imagenet(self.model.eye, weights.fetch("vgg16"))

    def weights(self) -> dict[str, float]:
        """1 for each loss: `mae_mse` applies the paper's weights."""
        return {"gaze": 1.0, "blink": 1.0}

    def forward(self, phase: str, batch: FrameBatch, step: int, generator: torch.Generator) -> Losses:
        """The two losses of one batch of `data.frames`."""
        del phase, step
        # An eye is few pixels: blur or resampling would remove the iris.
        batch = augment_frames(
            batch, generator, mirrors=self.config.data.flip, jitter=0.4, degrades=False, shift=0, zoom=0
        )
        pose = imprecise_pose(batch.pose, generator, shift_cm=_SHIFT_CM, zoom=_ZOOM)
        look = self.model(self.model.crops(batch.image, pose), self._keypoints(batch, pose))
        w = {"w_mae": self.config.w_mae, "w_mse": self.config.w_mse}
        return {
            "gaze": mae_mse(look.gaze, torch.deg2rad(batch.gaze), **w),
            "blink": mae_mse(look.blink, batch.blink, **w),
        }

    def _keypoints(self, batch: FrameBatch, pose: Pose) -> Tensor:
        return head_keypoints(pose) if batch.landmarks is None else relative_keypoints(batch.landmarks, pose)

    def sample(self, model: GazeNet, batch: FrameBatch) -> tuple[Tensor, dict[str, float]]:
        """Eyes with the labelled (green) and predicted (red) gaze direction; mean errors over the known labels."""
        pose = batch.pose
        eyes = model.crops(batch.image.float() / 255, pose)
        look = model(eyes, self._keypoints(batch, pose))
        label = torch.deg2rad(batch.gaze)
        numbers = {
            "gaze_degrees": math.degrees(float(angle_between(look.gaze, label).nanmean())),
            "gaze_degrees_if_straight": math.degrees(float(angle_between(0 * label, label).nanmean())),
            "blink_error": float((look.blink - batch.blink).abs().nanmean()),
        }
        numbers = {name: value for name, value in numbers.items() if math.isfinite(value)}
        return _picture(eyes[:_PICTURED], label[:_PICTURED], look), numbers

    def save(self, path: Path, model: GazeNet, *, step: int) -> None:
        """Write the averaged network in float16."""
        save_gaze(path, model, notes={"steps": str(step)})


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """Angle (B,) between directions given as yaw and pitch (B, 2), radians."""

    def direction(angles: Tensor) -> Tensor:
        yaw, pitch = angles.unbind(-1)
        return torch.stack([yaw.sin() * pitch.cos(), -pitch.sin(), yaw.cos() * pitch.cos()], -1)

    cosine = (direction(a) * direction(b)).sum(-1)
    return cosine.clamp(-1, 1).acos()


def load_imagenet(eye: EyeEncoder, path: Path) -> None:
    """Initialise an eye encoder of the paper's widths from torchvision's VGG-16.

    Raises:
        WeightsError: the encoder has other widths than the file, or the file cannot be read.
    """
    fix = "Set model.pretrained=false for other widths than the paper's."
    load_published(eye.features, path, "the eye encoder's layers", fix=fix, prefix="features.")


def _picture(eyes: Tensor, label: Tensor, look: GazeOutput, side: int = 96) -> Tensor:
    columns = []
    for pair, wanted, got in zip(eyes.cpu(), label.cpu(), look.gaze.cpu(), strict=False):
        rows = []
        for eye in pair:
            pixels = np.ascontiguousarray((eye.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy())
            pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_NEAREST)
            for angles, color in ((wanted, (0, 220, 0)), (got, (230, 0, 0))):
                if not angles.isnan().any():
                    tip = (int(side / 2 * (1 + 1.5 * math.sin(a))) for a in angles.tolist())  # +pitch looks down
                    cv2.arrowedLine(pixels, (side // 2, side // 2), tuple(tip), color, 2, tipLength=0.3)
            rows.append(pixels)
        columns.append(np.concatenate(rows, 0))
    return torch.from_numpy(np.concatenate(columns, 1)).permute(2, 0, 1) / 255


def train_gaze(config: TrainGazeConfig, out: Path, *, resume: bool = False) -> int:
    """Train the gaze network on the frames of clips; returns the step reached.

    The base model's option `loss.gaze_network` takes the weights `out/gaze.safetensors`.
    """
    labels = Path(config.data.labels) if config.data.labels else None
    landmarks = config.model.keypoint_input == "landmarks"
    config, training, validation = run_frames(config, labels=labels, landmarks=landmarks)
    torch.manual_seed(config.run.seed)
    return fit(GazeStage(config), training, validation, config, out, resume=resume)
