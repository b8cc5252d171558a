from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from megaportraits.baselines.hifacegan import HiFaceGan
from megaportraits.config import ModelConfig, TrainHiFaceGanConfig, parse_config
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_enhancer, save_base
from megaportraits.training.enhancer import EnhancerStage, train_enhancer
from tests.conftest import TINY_DISCRIMINATOR, TINY_HIFACEGAN, TINY_RUN


def tiny_run(clips: Path, base: Path) -> TrainHiFaceGanConfig:
    return parse_config(
        TrainHiFaceGanConfig,
        {
            "base": str(base),
            "model": TINY_HIFACEGAN,
            "discriminator": TINY_DISCRIMINATOR,
            "data": {"path": str(clips), "validation": str(clips), "workers": 0, "min_size": 32},
            "loss": {"reconstruction": 0, "matte": 1, "feature_matching": 10, "cross_adversarial": 0, "cycle": 0},
            "optim": {"steps": 3, "batch_size": 3, "learning_rate": 1e-3},
            "run": TINY_RUN,
        },
        "tiny",
    )


@pytest.fixture
def base(tiny_config: ModelConfig, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_base(tmp_path / "base.safetensors", BaseModel(tiny_config))
    return tmp_path / "base.safetensors"


def test_a_run_resumes_exactly_and_its_file_is_an_enhancer_of_that_base(
    clips: Path, base: Path, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    config, whole = tiny_run(clips, base), tmp_path / "run"
    assert train_enhancer(config, whole) == 3
    weights = whole / "enhancer.safetensors"
    before = load_file(weights)
    (whole / "checkpoints/step-00000003.pt").unlink()  # as if killed after step 2
    weights.unlink()
    train_enhancer(config, whole, resume=True)
    after = load_file(weights)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any("parametrizations" in name for name in before)  # spectral norms are folded
    loaded = load_enhancer(weights, tiny_config)
    assert isinstance(loaded, HiFaceGan) and loaded(torch.rand(1, 4, 32, 32)).isfinite().all()
    with pytest.raises(WeightsError, match="it takes images of 32 px, the base makes 64 px"):
        load_enhancer(weights, tiny_config.model_copy(update={"image_size": 64}))
    stats = json.loads((whole / "stats.jsonl").read_text().splitlines()[0])
    assert {"adversarial", "feature_matching", "matte", "discriminator"} <= set(stats)
    assert not {"reconstruction", "cycle", "cross_adversarial"} & set(stats)


def test_a_model_that_does_not_fit_the_base_is_refused(clips: Path, tiny_config: ModelConfig) -> None:
    config = tiny_run(clips, Path("unused"))
    config = config.model_copy(update={"model": config.model.model_copy(update={"matte": False})})
    with pytest.raises(ConfigError, match="it knows no alpha, the base makes one"):
        EnhancerStage(config, BaseModel(tiny_config))
