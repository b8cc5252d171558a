"""The phases "generator" and "discriminator" in the stage and in the loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from megaportraits.training import checkpoint
from megaportraits.training.base import train_base
from megaportraits.training.stage import phase_parameters
from tests.training.test_training import stage_and_batch, tiny_run

ON = {"adversarial": 1.0, "feature_matching": 40.0}


def gradients(module: torch.nn.Module) -> bool:
    return any(p.grad is not None and p.grad.any() for p in module.parameters())


def test_the_discriminator_sees_detached_images(clips: Path) -> None:
    stage, batch = stage_and_batch(clips, **ON)
    stage("generator", batch, 1, torch.Generator().manual_seed(0))
    losses = stage("discriminator", batch, 1, torch.Generator().manual_seed(0))
    assert set(losses) == {"discriminator"}
    losses["discriminator"].backward()
    assert gradients(stage.discriminator) and not gradients(stage.model)


@pytest.mark.parametrize("name", list(ON))
def test_the_generator_learns_through_the_discriminator(clips: Path, name: str) -> None:
    stage, batch = stage_and_batch(clips, **ON)
    own = phase_parameters(stage)
    for parameter in own["discriminator"]:
        parameter.requires_grad_(False)  # what the loop does in the generator's phase
    stage("generator", batch, 1, torch.Generator().manual_seed(0))[name].backward()
    assert stage.model.generator_2d.output.conv.weight.grad.any() and gradients(stage.model.appearance)
    assert all(p.grad is None for p in stage.discriminator.parameters())


def test_every_parameter_belongs_to_one_phase(clips: Path) -> None:
    stage, _ = stage_and_batch(clips, **ON)
    own = phase_parameters(stage)
    assert {id(p) for p in own["discriminator"]} == {id(p) for p in stage.discriminator.parameters()}
    assert sum(map(len, own.values())) == len(list(stage.parameters()))


def test_the_loop_moves_both_networks_and_resumes_exactly(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(clips, steps=4, **ON)
    train_base(config, tmp_path / "straight")
    train_base(config, tmp_path / "broken")
    (tmp_path / "broken/checkpoints/step-00000004.pt").unlink()
    before = checkpoint.latest(tmp_path / "broken/checkpoints")
    train_base(config, tmp_path / "broken", resume=True)
    straight, broken = (checkpoint.latest(tmp_path / run / "checkpoints") for run in ("straight", "broken"))
    assert straight is not None and broken is not None and before is not None and before["step"] == 3
    for key, value in straight["stage"].items():
        assert torch.equal(value, broken["stage"][key]), key
    moved = {k.partition(".")[0] for k, v in straight["stage"].items() if not torch.equal(v, before["stage"][k])}
    assert moved == {"model", "readout", "discriminator"}


def test_the_discriminator_may_join_a_run_that_began_without(clips: Path, tmp_path: Path) -> None:
    train_base(tiny_run(clips, steps=2), tmp_path)
    state = checkpoint.latest(tmp_path / "checkpoints")
    assert state is not None
    # As checkpoints were written before there were phases.
    state["optimizer"] = state.pop("optimizers")["generator"]
    checkpoint.save(tmp_path / "checkpoints", state, keep=1)
    assert train_base(tiny_run(clips, steps=3, **ON), tmp_path, resume=True) == 3
    after = checkpoint.latest(tmp_path / "checkpoints")
    assert after is not None and set(after["optimizers"]) == {"generator", "discriminator"}


def test_the_discriminator_does_not_ship(clips: Path, tmp_path: Path) -> None:
    train_base(tiny_run(clips, steps=1, **ON), tmp_path)
    assert not [k for k in load_file(tmp_path / "base.safetensors") if "discriminator" in k]
