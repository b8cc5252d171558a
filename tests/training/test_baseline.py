from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from megaportraits.baselines.storage import load_baseline
from megaportraits.config import ConfigError, TrainBaseConfig, TrainBaselineConfig, load_config, parse_config
from megaportraits.data.batches import PairBatch, collate
from megaportraits.nn.weights_file import read_notes
from megaportraits.training.baseline import BaselineStage, train_baseline
from megaportraits.training.pairs import run_pairs
from tests.conftest import TINY_DISCRIMINATOR, TINY_FACE_VID2VID, TINY_FOMM, TINY_RUN
from tests.data.test_batches import same

KINDS = {"fomm": TINY_FOMM, "face-vid2vid": TINY_FACE_VID2VID}
OWN = {"fomm": ("equivariance_jacobian",), "face-vid2vid": ("keypoint_prior", "head_pose", "deformation")}


def tiny_run(clips: Path, kind: str, steps: int = 4, **loss: float) -> TrainBaselineConfig:
    weights: dict[str, Any] = {"perceptual": 0, "reconstruction": 1, "matte": 1, "equivariance": 1}
    weights |= dict.fromkeys(OWN[kind], 1)
    return parse_config(
        TrainBaselineConfig,
        {
            "model": KINDS[kind],
            "discriminator": TINY_DISCRIMINATOR,
            "data": {
                "path": str(clips),
                "validation": str(clips),
                "workers": 0,
                "cross_identity": 0.5,
                "random_background": True,
                "driver_augmentation": False,
            },
            "loss": {**weights, **loss},
            "optim": {"steps": steps, "batch_size": 3, "learning_rate": 1e-3},
            "run": TINY_RUN,
        },
        "test",
    )


def stage_and_batch(clips: Path, kind: str, **loss: float) -> tuple[BaselineStage, PairBatch]:
    config = tiny_run(clips, kind, **loss)
    torch.manual_seed(0)
    stage = BaselineStage(config, ("jawOpen", "eyeBlink_L", "eyeBlink_R"))
    with run_pairs(config, 4) as (pairs, _):
        items = [pairs[i] for i in range(4)]
    return stage, collate(items)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_a_baseline_learns(clips: Path, kind: str) -> None:
    stage, batch = stage_and_batch(clips, kind)
    for parameter in stage.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    losses = stage("generator", batch, 1, torch.Generator().manual_seed(0))
    assert set(losses) == set(stage.weights())
    torch.stack(list(losses.values())).sum().backward()
    assert [n for n, p in stage.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_gives_the_same_weights_as_an_uninterrupted_one(clips: Path, tmp_path: Path, kind: str) -> None:
    config, halves = tiny_run(clips, kind, adversarial=0.1, feature_matching=1), tmp_path / "halves"
    assert train_baseline(config, tmp_path / "whole") == 4
    shutil.copytree(tmp_path / "whole", halves)
    (halves / "checkpoints/step-00000004.pt").unlink()  # as if killed after step 3
    (halves / "baseline.safetensors").unlink()
    assert train_baseline(config, halves, resume=True) == 4
    a, b = (load_file(folder / "baseline.safetensors") for folder in (tmp_path / "whole", halves))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert read_notes(halves / "baseline.safetensors")["kind"] == kind
    made = load_baseline(halves / "baseline.safetensors", kind)(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))
    assert made.image.isfinite().all()
    stats = [json.loads(line) for line in (halves / "stats.jsonl").read_text().splitlines()]
    assert {"equivariance", "discriminator", "feature_matching", *OWN[kind]} <= set(stats[0])
    assert "psnr" in stats[-1]["validation"] and (halves / "samples/00000004.png").is_file()


def test_all_methods_see_the_pairs_of_the_base_model_in_the_same_order(clips: Path) -> None:
    """The nano configs share what decides which pairs are drawn; the seed and the counts do the rest."""
    chosen = [f"data.path={clips}", "optim.steps=5", "optim.batch_size=4", "run.seed=7"]
    drawn = []
    for schema, name in (
        (TrainBaseConfig, "nano"),
        (TrainBaseConfig, "nano-paper"),
        (TrainBaselineConfig, "fomm-nano"),
        (TrainBaselineConfig, "face-vid2vid-nano"),
    ):
        config: Any = load_config(schema, name, chosen)
        with run_pairs(config, 1) as (pairs, _):
            drawn.append([pairs[k] for k in range(len(pairs))])
    ours, *others = drawn
    assert len(ours) == 20
    for pairs in others:
        for mine, theirs in zip(ours, pairs, strict=True):
            assert same(mine, theirs)


def test_the_driver_is_the_targets_own_frame_also_across_people(clips: Path) -> None:
    stage, batch = stage_and_batch(clips, "fomm")
    batch.driver.image.copy_(255 - batch.driver.image)
    before = stage("generator", batch, 1, torch.Generator().manual_seed(0))
    batch.driver.image.copy_(batch.driver.image // 2)
    after = stage("generator", batch, 1, torch.Generator().manual_seed(0))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_alpha_images_keep_their_background(clips: Path) -> None:
    stage, batch = stage_and_batch(clips, "fomm")
    config = stage.config.model_copy(update={"model": stage.config.model.model_copy(update={"predict_matte": False})})
    whole = BaselineStage(config, stage.expression_names)
    assert "matte" not in whole.weights()
    views = whole._views(batch, torch.Generator().manual_seed(0))
    assert (views.target_matte == 1).all()
    assert (stage._views(batch, torch.Generator().manual_seed(0)).target_matte < 1).any()


@pytest.mark.parametrize(
    ("kind", "loss", "said"),
    [
        ("fomm", {"head_pose": 1}, "loss.head_pose is a loss of face-vid2vid"),
        ("face-vid2vid", {"equivariance_jacobian": 1}, "loss.equivariance_jacobian is a loss of fomm"),
        ("fomm", {"reconstruction_emphasis": 1}, "reconstruction_emphasis is a loss of the base model"),
    ],
)
def test_losses_that_a_baseline_does_not_have_are_refused(
    clips: Path, kind: str, loss: dict[str, float], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny_run(clips, kind, **loss)


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ConfigError, match="the dense motion's input has 60 px"):
        load_config(TrainBaselineConfig, "fomm", ["model.image_size=240", "model.detector.levels=2"])


def test_spectral_norms_are_folded_into_the_saved_weights(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(clips, "fomm", steps=1)
    config = config.model_copy(update={"optim": config.optim.model_copy(update={"spectral_norm": True})})
    train_baseline(config, tmp_path)
    assert not any("parametrizations" in name for name in load_file(tmp_path / "baseline.safetensors"))
    load_baseline(tmp_path / "baseline.safetensors", "fomm")


def test_an_unknown_key_of_a_model_is_named_without_its_kind_and_with_what_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"model\.keypoint: .* did you mean model\.keypoints"):
        load_config(TrainBaselineConfig, "fomm-nano", ["model.keypoint=3"])
    with pytest.raises(ConfigError, match=r"model\.motion\.width: .* greater than or equal to 1"):
        load_config(TrainBaselineConfig, "fomm-nano", ["model.motion.width=0"])
    with pytest.raises(ConfigError, match=r"'face-vid2vid'.*got"):
        load_config(TrainBaselineConfig, "fomm-nano", ["model.kind=x2face"])
