"""Parts of the paper's configs that nano's lack: a trained head-pose network, and a foreground without alpha."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from megaportraits.config import HeadPoseConfig, ModelConfig, TrainBaseConfig
from megaportraits.data.batches import PairBatch, PhotoBatch, collate
from megaportraits.data.pairs import PairDataset
from megaportraits.data.photos import PhotoDataset
from megaportraits.errors import TrainingError
from megaportraits.models.base import BaseModel
from megaportraits.models.identity import Output
from megaportraits.models.motion import Motion
from megaportraits.models.storage import save_base, save_head_pose
from megaportraits.training import views
from megaportraits.training.base import BaseStage, train_base
from megaportraits.training.enhancer import EnhancerStage
from megaportraits.training.head_pose import make_head_pose
from tests.training.test_enhancer import tiny_run as tiny_enhancer
from tests.training.test_training import tiny_run

NAMES = ("jawOpen", "eyeBlink_L", "eyeBlink_R")


def detached(clips: Path) -> TrainBaseConfig:
    """As the paper's: poses of a network that this run does not train."""
    config = tiny_run(clips, steps=1, pose=0)
    return config.model_copy(update={"run": config.run.model_copy(update={"teacher_pose": False})})


def no_alpha(config: ModelConfig, *, background: bool = False) -> ModelConfig:
    off = ("predict_matte", "source_skip", "mirror_hidden", "refine_flow")
    return config.model_copy(update=dict.fromkeys(off, False) | {"predict_background": background})


def test_a_run_whose_heads_would_keep_the_identity_rotation_is_refused(clips: Path, tmp_path: Path) -> None:
    config, out = detached(clips), tmp_path / "run"
    with pytest.raises(TrainingError, match="head-pose network is untrained") as error:
        train_base(config, out)
    assert "--head-pose" in error.value.fix and not out.exists()
    torch.manual_seed(0)
    untrained = tmp_path / "untrained.safetensors"
    save_base(untrained, BaseModel(config.model))
    with pytest.raises(TrainingError, match="head-pose network is untrained"):
        train_base(config, out, init=untrained)
    frozen = tiny_run(clips, steps=1, optim={"parts": ["generator_2d"]})
    frozen = frozen.model_copy(update={"run": frozen.run.model_copy(update={"teacher_pose": False})})
    with pytest.raises(TrainingError, match="head-pose network is untrained"):
        train_base(frozen, out)
    assert not out.exists()


def test_a_trained_head_pose_network_is_all_that_such_a_run_needs(clips: Path, tmp_path: Path) -> None:
    config, path = detached(clips), tmp_path / "head_pose.safetensors"
    wanted = HeadPoseConfig.of(config.model)
    network = make_head_pose(wanted)
    torch.nn.init.normal_(network.head.weight, std=0.01)  # as after some training
    save_head_pose(path, network, wanted)
    assert train_base(config, tmp_path / "run", head_pose=path) == 1
    assert train_base(config, tmp_path / "run", resume=True) == 1


@pytest.mark.parametrize("kind", ["grid", "thin-plate"])
def test_drivers_are_warped_as_the_config_says(clips: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    called: list[str] = []
    for name in ("random_warp", "thin_plate_warp"):
        warp = getattr(views, name)
        monkeypatch.setattr(
            views, name, lambda *x, _warp=warp, _name=name, **options: called.append(_name) or _warp(*x, **options)
        )
    config = tiny_run(clips)
    config = config.model_copy(update={"data": config.data.model_copy(update={"driver_warp": kind})})
    dataset = PairDataset(clips, length=2, size=32, expression_names=NAMES)
    batch = collate([dataset[i] for i in range(2)])
    seen = views.make_views(batch, config, torch.Generator().manual_seed(0))
    assert called == [{"grid": "random_warp", "thin-plate": "thin_plate_warp"}[kind]]
    assert seen.driver_augmented.shape == (2, 3, 32, 32) and seen.driver_augmented.isfinite().all()


def outside_changed(render: Any, matte: torch.Tensor) -> Any:
    """A base model's `render` whose background, where the matte is 0, is bright instead of what it was."""

    def changed(identity: Any, motion: Motion) -> Output:
        output = render(identity, motion)
        parts = len(output.image) // len(matte)
        image = torch.where(matte.repeat(parts, 1, 1, 1) > 0, output.image, torch.ones(()))
        return Output(image, None, output.displacement)

    return changed


def half_matte(batch: PairBatch | PhotoBatch) -> None:
    """Every view shows its person in the left half only."""
    for view in (batch.source, batch.target, batch.driver):
        view.matte.fill_(255)
        view.matte[..., view.matte.shape[-1] // 2 :] = 0


def test_no_loss_of_a_base_without_alpha_sees_its_background(clips: Path) -> None:
    config = tiny_run(clips, matte=0)
    config = config.model_copy(
        update={
            "model": no_alpha(config.model),
            "data": config.data.model_copy(update={"flip": False}),
        }
    )
    torch.manual_seed(0)
    stage = BaseStage(config, NAMES)
    dataset = PairDataset(clips, length=4, size=32, expression_names=NAMES)
    items = [dataset[i] for i in range(4)]
    batch = collate(items)
    half_matte(batch)
    before = stage("generator", batch, 2, torch.Generator().manual_seed(0))
    assert "contrastive" in before
    matte = batch.target.matte.float() / 255
    stage.model.render = outside_changed(stage.model.render, matte)  # type: ignore[method-assign]
    after = stage("generator", batch, 2, torch.Generator().manual_seed(0))
    assert {k: float(v.detach()) for k, v in after.items()} == {k: float(v.detach()) for k, v in before.items()}


@pytest.mark.parametrize("background", [False, True])
def test_the_enhancer_of_a_base_without_alpha_never_sees_its_background(
    clips: Path, tiny_config: ModelConfig, background: bool
) -> None:
    """But it does where the base was made to predict the background (B.4 d)."""
    config = tiny_enhancer(clips, Path("unused"), skip=False, matte=0)
    model = config.model.model_copy(update={"matte": False, "residual": False})
    data = config.data.model_copy(update={"flip": False})
    torch.manual_seed(0)
    base = BaseModel(no_alpha(tiny_config, background=background))
    stage = EnhancerStage(config.model_copy(update={"model": model, "data": data}), base)
    dataset = PhotoDataset(clips, length=3, size=64)
    items = [dataset[k] for k in range(3)]
    batch = collate(items)
    half_matte(batch)
    before = stage("generator", batch, 1, torch.Generator().manual_seed(0))
    assert {"cycle", "cross_adversarial", "reconstruction"} <= set(before)
    matte = torch.ones(3, 1, 32, 32)
    matte[..., 16:] = 0
    base.render = outside_changed(base.render, matte)  # type: ignore[method-assign]
    after = stage("generator", batch, 1, torch.Generator().manual_seed(0))
    same = {k: float(v.detach()) == float(after[k].detach()) for k, v in before.items()}
    assert all(same.values()) is not background
    truth = stage._views(batch, torch.Generator().manual_seed(0)).target
    assert bool(truth[..., 32:].any()) is background
