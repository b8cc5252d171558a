"""Discriminators of eyes and mouth: positions of the crops, and training in their own phase."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megaportraits.data.augment import FEATURES_CM
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.ops.warping import Pose, project
from megaportraits.training.components import component_crops
from megaportraits.training.stage import phase_parameters
from tests.training.test_adversarial import gradients
from tests.training.test_training import stage_and_batch

ON = {"component_adversarial": 1.0, "component_matching": 10.0}


def pose(yaw: float = 0.0, scale: float = 1.0) -> Pose:
    rotation = torch.from_numpy(euler_to_matrix(yaw, 0, 0)).float()[None]
    return Pose(rotation, torch.zeros(1, 2), torch.tensor([scale]))


def test_a_component_lies_in_the_middle_of_its_crop() -> None:
    turned = pose(yaw=15, scale=0.9)
    for number, (point, _) in enumerate(FEATURES_CM):
        place = (project(torch.tensor([point]), turned)[0, 0] + 1) * 64
        y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
        spot = torch.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / 8)[None, None]
        crops = component_crops(spot, turned)
        crop = crops["mouth"][0, 0] if number == 2 else crops["eyes"][number, 0]
        where = torch.nonzero(crop == crop.max())[0] + 0.5
        assert (where - len(crop) / 2).abs().max() <= 1


def test_right_eyes_look_like_left_ones() -> None:
    half = torch.rand(1, 3, 128, 64)
    left, right = component_crops(torch.cat([half, half.flip(-1)], -1), pose())["eyes"]
    torch.testing.assert_close(right, left, atol=1e-5, rtol=0)


def test_crops_grow_with_the_picture() -> None:
    sides = [component_crops(torch.rand(1, 3, s, s), pose())["mouth"].shape[-1] for s in (128, 256, 512)]
    assert sides == [32, 64, 128]


def test_the_components_discriminator_sees_detached_images(clips: Path) -> None:
    stage, batch = stage_and_batch(clips, **ON)
    assert stage.phases == ("generator", "component_discriminator")
    stage("generator", batch, 1, torch.Generator().manual_seed(0))
    losses = stage("component_discriminator", batch, 1, torch.Generator().manual_seed(0))
    assert set(losses) == {"component_discriminator"}
    losses["component_discriminator"].backward()
    untouched = [n for n, p in stage.component_discriminator.named_parameters() if p.grad is None]
    assert not untouched and not gradients(stage.model)


@pytest.mark.parametrize("name", list(ON))
def test_the_generator_learns_through_the_components(clips: Path, name: str) -> None:
    stage, batch = stage_and_batch(clips, **ON)
    for parameter in phase_parameters(stage)["component_discriminator"]:
        parameter.requires_grad_(False)  # what the loop does in the generator's phase
    stage("generator", batch, 1, torch.Generator().manual_seed(0))[name].backward()
    assert stage.model.generator_2d.output.conv.weight.grad.any()
    assert all(p.grad is None for p in stage.component_discriminator.parameters())


def test_both_kinds_of_discriminators_judge_the_same_images(clips: Path) -> None:
    stage, batch = stage_and_batch(clips, adversarial=1.0, **ON)
    assert stage.phases == ("generator", "discriminator", "component_discriminator")
    for phase in stage.phases:
        losses = stage(phase, batch, 1, torch.Generator().manual_seed(0))
        assert all(torch.isfinite(loss) for loss in losses.values())


def test_crops_are_cut_once_for_all_losses_of_a_step(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[torch.Tensor] = []

    def counted(images: torch.Tensor, pose: Pose) -> dict[str, torch.Tensor]:
        cut.append(images)
        return component_crops(images, pose)

    monkeypatch.setattr("megaportraits.training.components.component_crops", counted)
    stage, batch = stage_and_batch(clips, **ON)
    for phase in stage.phases:
        stage(phase, batch, 1, torch.Generator().manual_seed(0))
    assert len(cut) == 2, "of the prediction and of the target"
