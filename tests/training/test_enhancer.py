"""The second stage: a frozen base, a supervised and an unsupervised part, and a run that resumes exactly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from megaportraits.config import (
    ConfigError,
    ModelConfig,
    TrainEnhancerConfig,
    load_config,
    parse_config,
)
from megaportraits.data.batches import PhotoBatch, collate
from megaportraits.data.photos import PhotoDataset
from megaportraits.errors import DataError, TrainingError
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.models.base import BaseModel
from megaportraits.models.enhancer import grow, move_source, over, picture_of
from megaportraits.models.motion import infer_motion
from megaportraits.models.source_skip import Flow
from megaportraits.models.storage import load_enhancer, save_base
from megaportraits.ops.compositing import composite
from megaportraits.training import checkpoint
from megaportraits.training.enhancer import EnhancerStage, train_enhancer
from megaportraits.training.photos import aligned_views, drive_base, driven_pictures, photo_views, truth_of
from megaportraits.training.stage import phase_parameters
from tests.conftest import TINY_DISCRIMINATOR, TINY_RUN
from tests.models.test_enhancer import TINY_HR

FULL = {
    "reconstruction",
    "adversarial",
    "feature_matching",
    "cross_adversarial",
    "cycle",
}


def tiny_run(clips: Path, base: Path, steps: int = 4, *, skip: bool = True, **loss: float) -> TrainEnhancerConfig:
    return parse_config(
        TrainEnhancerConfig,
        {
            "base": str(base),
            "model": TINY_HR | {"source_skip": skip},
            "discriminator": TINY_DISCRIMINATOR,
            "data": {
                "path": str(clips),
                "validation": str(clips),
                "workers": 0,
                "min_size": 32,
                "source_drop": 0.5,
                "aligned_truth": skip,
            },
            "loss": {"matte": 1, **loss},
            "optim": {"steps": steps, "batch_size": 3, "learning_rate": 1e-3, "spectral_norm": False},
            "run": TINY_RUN,
        },
        "tiny-hr",
    )


@pytest.fixture
def base(tiny_config: ModelConfig, tmp_path: Path) -> Path:
    """A random base model's file."""
    torch.manual_seed(0)
    path = tmp_path / "base.safetensors"
    save_base(path, BaseModel(tiny_config))
    return path


def stage_and_batch(clips: Path, tiny_config: ModelConfig, **changes: Any) -> tuple[EnhancerStage, PhotoBatch]:
    torch.manual_seed(0)
    stage = EnhancerStage(tiny_run(clips, Path("unused"), **changes), BaseModel(tiny_config))
    torch.nn.init.normal_(stage.model.output.conv.weight, std=0.1)  # as after some training
    dataset = PhotoDataset(clips, length=3, size=64)
    items = [dataset[k] for k in range(3)]
    return stage, collate(items)


def run(stage: EnhancerStage, batch: PhotoBatch, phase: str = "generator", step: int = 1) -> dict[str, Any]:
    losses: dict[str, Any] = stage(phase, batch, step, torch.Generator().manual_seed(0))
    return losses


def test_every_loss_of_equation_10_reaches_the_enhancer_and_never_the_base(
    clips: Path, tiny_config: ModelConfig
) -> None:
    stage, batch = stage_and_batch(clips, tiny_config)
    assert set(run(stage, batch)) == FULL
    for name in FULL:
        stage.zero_grad()
        for parameter in phase_parameters(stage)["discriminator"]:
            parameter.requires_grad_(False)  # what the loop does in the generator's phase
        run(stage, batch)[name].backward()
        assert stage.model.stem.weight.grad.any(), name
    (frozen,) = stage._base
    assert not any(p.requires_grad or p.grad is not None for p in frozen.parameters())


@torch.no_grad()
def test_photographs_drive_the_base_with_their_blendshapes_as_at_inference(
    clips: Path, tiny_config: ModelConfig
) -> None:
    names = ("jawOpen", "mouthSmileLeft")
    motion = tiny_config.motion.model_copy(update={"blendshapes": names, "append_blendshapes": True})
    torch.manual_seed(0)
    base = BaseModel(tiny_config.model_copy(update={"motion": motion})).eval()
    assert base.motion.correction is not None
    base.motion.correction.gain.normal_()
    for parameter in base.parameters():
        if not parameter.any():  # layers that change nothing at the start of training
            torch.nn.init.normal_(parameter, std=0.1)
    stage, batch = stage_and_batch(clips, tiny_config)
    for role in ("source", "target", "driver"):
        getattr(batch, role).blendshapes.uniform_()
    views = photo_views(batch, stage.config.data, True, torch.Generator().manual_seed(0))
    driven = drive_base(base, batch, views, cross=True)

    small = {role: F.avg_pool2d(image, 2) for role, image in views.image.items()}
    seen = composite(small["source"], F.avg_pool2d(views.matte["source"], 2), views.source_color)
    columns = [BLENDSHAPE_NAMES.index(name) for name in names]
    measured = {role: getattr(batch, role).blendshapes[:, columns] for role in small}
    identity = base.encode(seen, infer_motion(base, seen, batch.source.pose, measured["source"]))
    for part, role in ((slice(0, 3), "target"), (slice(3, 6), "driver")):
        own = infer_motion(base, small[role], getattr(batch, role).pose, measured[role])
        torch.testing.assert_close(driven.image[part], base.render(identity, own).image, atol=1e-5, rtol=0)
        blind = infer_motion(base, small[role], getattr(batch, role).pose)
        assert (driven.image[part] - base.render(identity, blind).image).abs().max() > 1e-3


def test_alpha_is_judged_where_the_enhancer_writes_it(clips: Path, tiny_config: ModelConfig) -> None:
    stage, batch = stage_and_batch(clips, tiny_config)
    config = stage.config.model_copy(update={"model": stage.config.model.model_copy(update={"residual": False})})
    whole = EnhancerStage(config, BaseModel(tiny_config))
    assert "matte" not in stage.weights() and set(run(whole, batch)) == FULL | {"matte"}
    run(whole, batch)["matte"].backward()
    assert whole.model.output.conv.weight.grad[3 * 4 :].any()  # the four pixels of alpha come last


@torch.no_grad()
def test_where_alpha_stays_the_truth_asks_for_no_other_outline(clips: Path, tiny_config: ModelConfig) -> None:
    """Nor for colours that the photograph does not show: there an untouched picture makes no error."""
    stage, batch = stage_and_batch(clips, tiny_config)
    (frozen,) = stage._base
    views = photo_views(batch, stage.config.data, True, torch.Generator().manual_seed(0))
    driven = driven_pictures(drive_base(frozen, batch, views, cross=True), views, skip=True)
    assert driven.fine is not None and torch.equal(truth_of(views, driven, alpha_stays=False), views.target)
    start = driven.fine[:3]
    left, right = views.matte["target"].clone(), views.matte["target"].clone()
    left[..., :32], right[...] = 0, 1
    truth = truth_of(replace(views, matte={**views.matte, "target": left}), driven, alpha_stays=True)
    assert torch.allclose(truth[..., :32], over(start, views.color)[..., :32])
    truth = truth_of(replace(views, matte={**views.matte, "target": right}), driven, alpha_stays=True)
    assert torch.allclose(truth - views.color * (1 - start[:, 3:]), views.image["target"] * start[:, 3:], atol=1e-6)


def test_the_discriminator_sees_detached_images_of_both_parts(clips: Path, tiny_config: ModelConfig) -> None:
    stage, batch = stage_and_batch(clips, tiny_config)
    run(stage, batch)
    assert stage._shown.pair is not None and [len(images) for images in stage._shown.pair] == [6, 3]
    run(stage, batch, "discriminator")["discriminator"].backward()
    assert stage.model.stem.weight.grad is None
    assert all(p.grad is not None for p in stage.discriminator.parameters())


def test_without_the_cycle_part_nothing_is_driven_by_strangers(clips: Path, tiny_config: ModelConfig) -> None:
    stage, batch = stage_and_batch(clips, tiny_config, cross_adversarial=0, cycle=0)
    assert set(run(stage, batch)) == FULL - {"cross_adversarial", "cycle"}
    assert stage._shown.pair is not None and len(stage._shown.pair[0]) == 3


def test_the_unsupervised_part_may_begin_later(clips: Path, tiny_config: ModelConfig) -> None:
    stage, batch = stage_and_batch(clips, tiny_config, cross_from=5)
    assert "cycle" not in run(stage, batch, step=4) and "cycle" in run(stage, batch, step=5)


@pytest.mark.parametrize("name", ["nano-hr-no-cycle", "nano-hr-no-source-skip"])
def test_an_ablation_is_nano_hr_but_for_what_it_takes_away(name: str) -> None:
    wanted = {
        "nano-hr-no-cycle": {"loss": {"cross_adversarial": 0.0, "cycle": 0.0}},
        "nano-hr-no-source-skip": {"model": {"source_skip": False}},
    }
    whole, other = (load_config(TrainEnhancerConfig, n).model_dump() for n in ("nano-hr", name))
    different = {
        section: {key: value for key, value in other[section].items() if value != whole[section][key]}
        for section in whole
        if other[section] != whole[section]
    }
    assert different == wanted[name]


@torch.no_grad()
def test_only_moved_detail_is_dropped(clips: Path, tiny_config: ModelConfig) -> None:
    """Where detail is taken away the picture is the base's, bicubically enlarged; nowhere is it anything else."""
    stage, batch = stage_and_batch(clips, tiny_config)
    (frozen,) = stage._base
    views = photo_views(batch, stage.config.data, True, torch.Generator().manual_seed(0))
    output = drive_base(frozen, batch, views, cross=True)
    whole, dropped = (
        driven_pictures(output, views, skip=True, drop=share, generator=torch.Generator().manual_seed(1)).fine
        for share in (0.0, 1.0)
    )
    assert whole is not None and dropped is not None
    plain = grow(picture_of(output), 64)
    between = (dropped - plain).abs() <= (whole - plain).abs() + 0.02
    assert between.float().mean() > 0.97  # straight colours are clipped, so a few pixels may differ
    assert (dropped - whole).abs().max() > 0.01


@torch.no_grad()
def test_aligned_truth_is_the_source_as_the_base_moved_it(clips: Path, tiny_config: ModelConfig) -> None:
    stage, batch = stage_and_batch(clips, tiny_config)
    (frozen,) = stage._base
    views = photo_views(batch, stage.config.data, True, torch.Generator().manual_seed(0))
    output = drive_base(frozen, batch, views, cross=True)
    assert output.view is not None
    aligned = aligned_views(output, views)
    assert aligned.target.shape == views.target.shape and not torch.equal(aligned.target, views.target)
    assert torch.equal(aligned.image["source"], views.image["source"])
    still = replace(output, view=replace(output.view, flow=Flow(torch.zeros_like(output.view.flow.direct))))
    back = aligned_views(still, views).image["target"] - views.image["source"]
    assert back.abs().mean() < 0.04  # noise of single pixels, resampled: the worst case


def test_a_whole_shift_moves_the_source_without_loss() -> None:
    source = torch.rand(1, 3, 64, 64)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 1] = 2 * 3 / 15  # three of the flow's pixels down, twelve of the source's
    soft = torch.nn.functional.avg_pool2d(grow(source, 128), 2)  # what growing and shrinking alone costs
    assert torch.allclose(move_source(source, Flow(flow))[:, :, 4:-16], soft.clamp(0, 1)[:, :, 16:-4], atol=1e-4)


def test_resume_is_exact_and_the_file_is_what_animate_takes(
    clips: Path, base: Path, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    config = tiny_run(clips, base)
    assert train_enhancer(config, tmp_path / "straight") == 4
    train_enhancer(config, tmp_path / "broken")
    (tmp_path / "broken/checkpoints/step-00000004.pt").unlink()
    train_enhancer(config, tmp_path / "broken", resume=True)
    straight, broken = (checkpoint.latest(tmp_path / run / "checkpoints") for run in ("straight", "broken"))
    assert straight is not None and broken is not None
    for key, value in straight["stage"].items():
        assert torch.equal(value, broken["stage"][key]), key
    for key, value in straight["average"].items():
        assert torch.equal(value, broken["average"][key]), key
    assert {key.partition(".")[0] for key in straight["stage"]} == {"model", "discriminator"}  # the base stays out
    load_enhancer(tmp_path / "straight" / "enhancer.safetensors", tiny_config)
    lines = [json.loads(line) for line in (tmp_path / "straight/stats.jsonl").read_text().splitlines()]
    assert {"psnr", "psnr_bicubic", "sharpness", "cycle"} <= set(lines[-1]["validation"])
    assert set(lines[0]) >= FULL
    assert (tmp_path / "straight/samples/00000004.png").is_file()
    with pytest.raises(TrainingError, match="already holds a run"):
        train_enhancer(config, tmp_path / "straight")


def test_a_base_without_a_source_skip_trains_the_plain_form(
    clips: Path, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    plain = tiny_config.model_copy(update={"source_skip": False, "mirror_hidden": False, "predict_matte": False})
    save_base(tmp_path / "plain.safetensors", BaseModel(plain))
    config = tiny_run(clips, tmp_path / "plain.safetensors", steps=1, skip=False)
    with pytest.raises(ConfigError, match="needs alpha"):
        train_enhancer(config, tmp_path / "run")
    unaligned = {"data": config.data.model_copy(update={"aligned_truth": True})}
    with pytest.raises(ConfigError, match="follows the base's flow"):
        train_enhancer(config.model_copy(update=unaligned), tmp_path / "run")
    paper = config.model.model_copy(update={"matte": False, "residual": False})
    assert train_enhancer(config.model_copy(update={"model": paper}), tmp_path / "run") == 1


def test_small_photographs_are_refused_with_their_size(clips: Path, base: Path, tmp_path: Path) -> None:
    config = tiny_run(clips, base)
    larger = config.model_copy(update={"data": config.data.model_copy(update={"min_size": 48})})
    with pytest.raises(DataError, match="the largest: 32 px"):
        train_enhancer(larger, tmp_path / "run")
