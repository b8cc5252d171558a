"""Supervision of E_mtn: what the pose loss measures, and which labels the expression readout counts more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from megaportraits.config import TrainBaseConfig
from megaportraits.data.batches import collate
from megaportraits.data.pairs import PairDataset
from megaportraits.models.motion import Expression, Motion
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.ops.warping import Pose
from megaportraits.training.base import BaseStage
from megaportraits.training.motion import MotionStage
from megaportraits.training.readout import pose_loss, readout_weights
from megaportraits.training.views import make_views
from tests.training.test_training import tiny_run

NAMES = ("jawOpen", "browInnerUp")


def pose(yaw: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), scale: float = 1.0) -> Pose:
    rotation = torch.from_numpy(euler_to_matrix(yaw, 0, 0)).float()[None]
    return Pose(rotation, torch.tensor([shift]), torch.tensor([scale]))


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        (pose(yaw=18), torch.pi / 10),  # radians
        (pose(shift=(0.1, -0.3)), 0.4),  # L1, crop units
        (pose(scale=2.0), 0.6931),  # L1 of the logarithm
        (pose(yaw=18, shift=(0.1, -0.3), scale=0.5), torch.pi / 10 + 0.4 + 0.6931),
    ],
)
def test_the_pose_loss_is_the_sum_of_angle_translation_and_scale_errors(predicted: Pose, expected: float) -> None:
    assert float(pose_loss(predicted, pose())) == pytest.approx(expected, abs=1e-3)
    assert float(pose_loss(pose(), predicted)) == pytest.approx(expected, abs=1e-3)


def stage_of(kind: type[BaseStage] | type[MotionStage], config: TrainBaseConfig) -> BaseStage | MotionStage:
    torch.manual_seed(0)
    stage = kind(config, NAMES)
    readout = stage.readout if isinstance(stage, BaseStage) else stage.model.readout
    assert readout is not None
    torch.nn.init.zeros_(readout.weight)
    torch.nn.init.zeros_(readout.bias)
    return stage


@pytest.mark.parametrize("kind", [BaseStage, MotionStage])
def test_jaw_and_gaze_errors_count_five_times_those_of_brows(
    kind: type[BaseStage] | type[MotionStage], clips: Path
) -> None:
    config = tiny_run(clips, reconstruction=0, matte=0, contrastive=0, warp=0)
    config = config.model_copy(update={"data": config.data.model_copy(update={"flip": False})})
    stage, dataset = stage_of(kind, config), PairDataset(clips, length=2, size=32, expression_names=NAMES)
    items = [dataset[k] for k in range(2)]
    batch = collate(items)
    losses = []
    for label in range(4):  # jaw, brow, gaze yaw, gaze pitch
        known = torch.full_like(batch.source.readout, torch.nan)
        known[:, label] = 1.0  # where a readout of zeros predicts 0
        source, target = (replace(frame, readout=known) for frame in (batch.source, batch.target))
        batch = replace(batch, source=source, target=target)
        found = stage("generator" if kind is BaseStage else "network", batch, 1, torch.Generator().manual_seed(0))
        losses.append(float(found["expression"].detach()))
    assert losses == pytest.approx([5, 1, 5, 5])
    assert readout_weights(("eyeBlink_L", "mouthSmile_R", "mouthPucker", "cheekPuff")).tolist() == [5, 5, 5, 1, 5, 5]


def test_losses_of_z_do_not_depend_on_the_blendshape_residuals(clips: Path) -> None:
    config = tiny_run(clips)
    motion = config.model.motion.model_copy(update={"blendshapes": ("jawOpen",), "append_blendshapes": True})
    config = config.model_copy(update={"model": config.model.model_copy(update={"motion": motion})})
    torch.manual_seed(0)
    stage = BaseStage(config, NAMES)
    dataset = PairDataset(clips, length=3, size=32, expression_names=NAMES)
    items = [dataset[k] for k in range(3)]
    batch = collate(items)
    with torch.no_grad():
        views = make_views(batch, config, torch.Generator().manual_seed(0))
        both, pose_error = stage.motions(batch, views)
        source, driver = both[slice(0, 3)], both[slice(3, None)]
        identity = stage.model.encode(views.source, source)
        output, crossed = stage._generate(identity, driver, contrasts=True)

        def losses(residual: float) -> tuple[float, float]:
            def seen(motion: Motion) -> Motion:
                return replace(
                    motion, expression=Expression(motion.expression.z, torch.full((len(motion), 1), residual))
                )

            fields = identity.displacement, output.displacement
            labels = stage._label_losses(batch, fields, seen(both).expression, pose_error)
            contrast = stage._contrastive(batch, output, crossed, seen(driver), views)
            return float(labels["expression"]), float(contrast)

        assert losses(0.0) == losses(3.0)


def test_the_contrastive_loss_compares_descriptors_of_the_encoder_alone(clips: Path) -> None:
    """Eq. 6: z of predictions and of drivers both come from E_mtn. Predictions have no blendshapes to correct it by."""
    config = tiny_run(clips)
    motion = config.model.motion.model_copy(update={"blendshapes": ("jawOpen",)})
    config = config.model_copy(update={"model": config.model.model_copy(update={"motion": motion})})
    torch.manual_seed(0)
    stage = BaseStage(config, NAMES)
    correction = stage.model.motion.correction
    assert correction is not None
    correction.gain.normal_()
    dataset = PairDataset(clips, length=3, size=32, expression_names=NAMES)
    batch = collate([dataset[k] for k in range(3)])
    with torch.no_grad():
        views = make_views(batch, config, torch.Generator().manual_seed(0))
        seen = []
        for blendshape in (0.0, 1.0):
            for frame in (batch.source, batch.target):
                frame.blendshapes.fill_(blendshape)
            both, _ = stage.motions(batch, views)
            seen.append(both)
        output, crossed = stage._generate(
            stage.model.encode(views.source, both[slice(0, 3)]), both[slice(3, None)], True
        )
        losses = [stage._contrastive(batch, output, crossed, motion[slice(3, None)], views) for motion in seen]
    assert not torch.equal(seen[0].expression.z, seen[1].expression.z) and losses[0] == losses[1]
