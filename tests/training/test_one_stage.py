"""B.2: one model on videos and photographs at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from megaportraits.config import ConfigError, ModelConfig, TrainOneStageConfig, parse_config
from megaportraits.data.batches import JointBatch, collate
from megaportraits.data.joint import JointDataset
from megaportraits.data.pairs import PairDataset
from megaportraits.data.photos import PhotoDataset
from megaportraits.errors import TrainingError
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_base, save_base
from megaportraits.training.one_stage import OneStage, train_one_stage
from megaportraits.training.stage import phase_parameters
from tests.conftest import TINY
from tests.training.test_training import tiny_run

NAMES = ("jawOpen", "eyeBlink_L", "eyeBlink_R")
PHOTO = {"photo_reconstruction", "photo_adversarial", "photo_feature_matching", "photo_cross_adversarial"}
OFF = dict.fromkeys(("predict_matte", "source_skip", "mirror_hidden", "refine_flow"), False)
SMALL = {**TINY, **OFF}
LARGE = {**SMALL, "image_size": 64, "generator_2d": {**TINY["generator_2d"], "fine": [4]}}  # type: ignore[dict-item]


def one_stage(clips: Path, *, parts: tuple[str, ...] = (), **photos: Any) -> TrainOneStageConfig:
    base = tiny_run(clips, steps=1, matte=0, warp=0, expression=0, adversarial=1, feature_matching=1)
    values = base.model_dump(mode="json") | {
        "model": LARGE,
        "photos": {"weight": 0.5, "data": {"path": str(clips), "min_size": 32}, **photos},
    }
    values["optim"]["parts"] = list(parts)
    return parse_config(TrainOneStageConfig, values, "test")


def batch_of(clips: Path) -> JointBatch:
    pairs = PairDataset(clips, length=3, size=64, expression_names=NAMES)
    dataset = JointDataset(pairs, PhotoDataset(clips, length=3, size=64))
    items = [dataset[k] for k in range(3)]
    assert len(dataset) == 3 and dataset.describe(collate([items[0]]))[0].startswith("c")
    return collate(items)


def test_both_objectives_reach_the_added_block_and_photographs_have_a_judge_of_their_own(clips: Path) -> None:
    torch.manual_seed(0)
    stage = OneStage(one_stage(clips), NAMES)
    torch.nn.init.normal_(stage.model.generator_2d.fine[0].output.conv.weight, std=0.1)  # as after some training
    batch, own = batch_of(clips), phase_parameters(stage)
    losses = stage("generator", batch, 2, torch.Generator().manual_seed(0))
    assert set(losses) >= PHOTO and {"contrastive", "reconstruction", "adversarial"} <= set(losses)
    assert set(losses) <= set(stage.weights()) and stage.weights()["photo_reconstruction"] == 50
    for name in ("reconstruction", *PHOTO):
        stage.zero_grad()
        losses[name].backward(retain_graph=True)
        assert stage.model.generator_2d.fine[0].block.conv1.weight.grad.any(), name
    assert stage.phases == ("generator", "discriminator", "photo_discriminator")
    stage.zero_grad()
    stage("photo_discriminator", batch, 2, torch.Generator())["photo_discriminator"].backward()
    assert all(p.grad is not None for p in own["photo_discriminator"])
    assert all(p.grad is None for p in (*own["generator"], *own["discriminator"]))


def test_videos_are_compared_at_their_own_size_and_photographs_at_twice_that(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from megaportraits.training import base
    from megaportraits.training import one_stage as module

    seen: dict[str, tuple[int, ...]] = {}
    for where, name in ((base, "videos"), (module, "photographs")):
        plain = where.masked_l1

        def noted(image: torch.Tensor, *more: Any, _plain: Any = plain, _name: str = name) -> torch.Tensor:
            seen[_name] = tuple(image.shape[-2:])
            return _plain(image, *more)

        monkeypatch.setattr(where, "masked_l1", noted)
    torch.manual_seed(0)
    OneStage(one_stage(clips), NAMES)("generator", batch_of(clips), 1, torch.Generator().manual_seed(0))
    assert seen == {"videos": (32, 32), "photographs": (64, 64)}


def test_a_frozen_model_begins_with_the_trained_bases_pictures_and_only_its_decoder_learns(
    clips: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    start = tmp_path / "base.safetensors"
    save_base(start, BaseModel(parse_config(ModelConfig, SMALL, "test")))
    config = one_stage(clips, parts=("projection", "generator_2d"))
    with pytest.raises(TrainingError, match="the rest would stay random"):
        train_one_stage(config, tmp_path / "random")
    assert train_one_stage(config, tmp_path / "run", init=start) == 1
    before, after = load_base(start), load_base(tmp_path / "run/base.safetensors")
    assert after.config.image_size == 64 and after.config.coarse_size == 32
    for part in ("appearance", "motion", "warp_driver", "generator_3d"):
        old, new = (getattr(model, part).state_dict() for model in (before, after))
        assert all(torch.equal(old[k], new[k]) for k in old), part
    small, large = (m.generator_2d.state_dict() for m in (before, after))
    assert not all(torch.equal(small[k], large[k]) for k in small)


@torch.no_grad()
def test_an_added_block_changes_no_picture_at_first() -> None:
    torch.manual_seed(0)
    small = BaseModel(parse_config(ModelConfig, SMALL, "test")).eval()
    large = BaseModel(parse_config(ModelConfig, LARGE, "test")).eval()
    large.load_state_dict({**large.state_dict(), **small.state_dict()})
    source, driver = torch.rand(2, 1, 3, 32, 32)
    grown = [torch.nn.functional.interpolate(x, (64, 64), mode="nearest") for x in (source, driver)]
    wanted = small(source, driver).image.logit()
    wanted = torch.nn.functional.interpolate(wanted, (64, 64), mode="bilinear", align_corners=False).sigmoid()
    torch.testing.assert_close(large(*grown).image, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("change", [{"predict_matte": True}, {"generator_2d": TINY["generator_2d"], "image_size": 32}])
def test_what_one_stage_does_not_train_is_refused(clips: Path, change: dict[str, Any]) -> None:
    values = one_stage(clips).model_dump(mode="json")
    values["model"] |= change
    with pytest.raises(ConfigError, match=r"model\.predict_matte and|additional upsampling block"):
        parse_config(TrainOneStageConfig, values, "test")
