"""Landmarks in crops of eyes and mouth: the training of their network, and the base model's loss on them. Ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from megaportraits.config.training import LossConfig, TrainComponentLandmarksConfig
from megaportraits.data.batches import FrameBatch
from megaportraits.faces.outlines import INNER_LIPS, LEFT_BROW, LEFT_EYE, LIPS, RIGHT_BROW, RIGHT_EYE
from megaportraits.losses.landmarks import landmark_distance, openings
from megaportraits.models.component_landmarks import ComponentLandmarkNet
from megaportraits.models.storage import load_component_landmarks, save_component_landmarks
from megaportraits.ops.warping import Pose
from megaportraits.training.features import visible_irises
from megaportraits.training.frames import augment_frames, imprecise_pose, run_frames
from megaportraits.training.loop import fit
from megaportraits.training.stage import Losses, TrainingStage

_EYE, _LIPS = len(RIGHT_EYE), len(LIPS) + len(INNER_LIPS)
_FIRST_LIP = len(RIGHT_EYE) + len(LEFT_EYE) + len(RIGHT_BROW) + len(LEFT_BROW)
LOOPS = (slice(0, _EYE), slice(len(LIPS), _LIPS))
"""The points that open and close: the lids among an eye's points, and the inner lips among a mouth's points."""
FACTORS = {"iris": 6.0, "eye_opening": 2.0, "mouth_opening": 2.0}
"""Weights of errors in the base model's loss; the others have 1. Only one of an eye's 17 points shows the gaze."""
_SHIFT_CM, _ZOOM = 0.5, 0.08
"""Errors of the head pose in training; see `imprecise_pose`."""
_PICTURED = 12

Points = tuple[Tensor, Tensor]
"""Of eyes (2 B, 17, 2) and mouths (B, 40, 2), half crops."""


def labelled_points(net: ComponentLandmarkNet, landmarks: Tensor, pose: Pose) -> Points:
    """The points that the network should find, from landmarks (B, 143, 2) of `faces.outlines.FEATURES` in crop units.

    Irises of closed eyes are NaN.
    """
    seen = visible_irises(landmarks)
    left = torch.cat([seen[:, _EYE : 2 * _EYE], seen[:, -1:]], 1)
    right = torch.cat([seen[:, :_EYE], seen[:, -2:-1]], 1)
    return net.relative(left, right, seen[:, _FIRST_LIP : _FIRST_LIP + _LIPS], pose)


def point_errors(net: ComponentLandmarkNet, got: Points, wanted: Points) -> dict[str, Tensor]:
    """Mean distances |dx| + |dy| in centimetres.

    `eye_points`, `mouth_points`: of all points; `eye_opening`, `mouth_opening`: of the vectors between opposite points
    of the lids and of the inner lips; `iris`: of the vector from the middle of the lids to the iris.
    """
    terms: dict[str, Tensor] = {}
    for name, points, labels, cm, loop in zip(("eye", "mouth"), got, wanted, net.centimetres(), LOOPS, strict=True):
        terms[f"{name}_points"] = landmark_distance(points, labels) * cm
        terms[f"{name}_opening"] = landmark_distance(openings(points[:, loop]), openings(labels[:, loop])) * cm
    iris, label = (eyes[:, _EYE:] - eyes[:, :_EYE].mean(1, keepdim=True) for eyes in (got[0], wanted[0]))
    terms["iris"] = landmark_distance(iris, label) * net.centimetres()[0]
    return terms


class ComponentLandmarkLoss:
    """The weighted sum of `point_errors` between the points that a frozen network finds in prediction and target.

    The network is not part of the stage's state dict, and moves to the images' device.

    Raises:
        WeightsError: the network's weights cannot be loaded.
    """

    def __init__(self, config: LossConfig) -> None:
        self._net = load_component_landmarks(config.landmark_network)

    def __call__(self, prediction: Tensor, target: Tensor, pose: Pose) -> Tensor:
        """The loss, a scalar in centimetres, in which the errors have the weights `FACTORS`.

        Args:
            prediction: (B, 3, S, S) in [0, 1]; receives gradients.
            target: (B, 3, S, S) in [0, 1]; receives no gradients.
            pose: the target's head pose.
        """
        net = self._net.to(target.device)
        with torch.no_grad():
            wanted = net(*net.crops(target, pose))
        errors = point_errors(net, net(*net.crops(prediction, pose)), wanted)
        return torch.stack([FACTORS.get(name, 1.0) * error for name, error in errors.items()]).sum()


class ComponentLandmarkStage(TrainingStage[ComponentLandmarkNet, FrameBatch, FrameBatch]):
    """Trains the network on frames whose landmarks are known."""

    phases = ("network",)
    file_name, validation_count = "component_landmarks.safetensors", 128

    def __init__(self, config: TrainComponentLandmarksConfig) -> None:
        super().__init__()
        self.config = config
        self.model = ComponentLandmarkNet(config.model)

    def weights(self) -> dict[str, float]:
        """1 for every error: all are in centimetres."""
        return {f"{part}_{what}": 1.0 for part in ("eye", "mouth") for what in ("points", "opening")} | {"iris": 1.0}

    def forward(self, phase: str, batch: FrameBatch, step: int, generator: torch.Generator) -> Losses:
        """The errors of one batch of `data.frames` with landmarks."""
        del phase, step
        batch = augment_frames(batch, generator, mirrors=self.config.data.flip, jitter=0.5, shift=0, zoom=0)
        pose = imprecise_pose(batch.pose, generator, shift_cm=_SHIFT_CM, zoom=_ZOOM)
        return point_errors(
            self.model,
            self.model(*self.model.crops(batch.image, pose)),
            labelled_points(self.model, _landmarks(batch), pose),
        )

    def sample(self, model: ComponentLandmarkNet, batch: FrameBatch) -> tuple[Tensor, dict[str, float]]:
        """Crops with the labelled (green) and found (red) points; mean errors, centimetres."""
        pose = batch.pose
        with torch.no_grad():
            crops = model.crops(batch.image.float() / 255, pose)
            found = model(*crops)
        wanted = labelled_points(model, _landmarks(batch), pose)
        numbers = {f"{name}_cm": float(value) for name, value in point_errors(model, found, wanted).items()}
        return _picture(crops, wanted, found), numbers

    def save(self, path: Path, model: ComponentLandmarkNet, *, step: int) -> None:
        """Write the averaged network in float16."""
        save_component_landmarks(path, model, notes={"steps": str(step)})


def _landmarks(batch: FrameBatch) -> Tensor:
    assert batch.landmarks is not None, "the data set was asked for landmarks"
    return batch.landmarks


def _picture(crops: Points, wanted: Points, found: Points, side: int = 96) -> Tensor:
    """Rows of eyes and of mouths, points as coloured pixels, (3, 2 side, n side) in [0, 1]."""
    rows = []
    for images, labels, points in zip(crops, wanted, found, strict=True):
        cells = nn.functional.interpolate(images[:_PICTURED].float().cpu(), (side, side), mode="bilinear").numpy()
        for marks, color in ((labels, (0.0, 0.85, 0.0)), (points, (0.9, 0.0, 0.0))):
            places = ((marks[: len(cells)].float().cpu().numpy() + 1) * (side / 2)).round()
            for cell, place in zip(cells, places, strict=True):
                inside = np.isfinite(place).all(-1)
                x, y = np.clip(place[inside], 0, side - 1).astype(int).T
                cell[:, y, x] = np.array(color, np.float32)[:, None]
        rows.append(np.concatenate(list(cells), 2))
    width = min(row.shape[2] for row in rows)
    return torch.from_numpy(np.concatenate([row[:, :, :width] for row in rows], 1)).clamp(0, 1)


def train_component_landmarks(config: TrainComponentLandmarksConfig, out: Path, *, resume: bool = False) -> int:
    """Train the network on the frames of clips that have landmarks; returns the step reached.

    The base model's option `loss.landmark_network` takes the weights `out/component_landmarks.safetensors`.

    Raises:
        DataError: no frame has landmarks.
    """
    config, training, validation = run_frames(config, landmarks=True)
    torch.manual_seed(config.run.seed)
    return fit(ComponentLandmarkStage(config), training, validation, config, out, resume=resume)
