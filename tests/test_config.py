from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from megaportraits.config import (
    TrainBaseConfig,
    TrainEnhancerConfig,
    TrainGazeConfig,
    TrainHeadPoseConfig,
    TrainStudentConfig,
    config_names,
    load_config,
)
from megaportraits.errors import ConfigError

ABLATIONS = {
    "ablation-no-contrastive": {"loss.contrastive": 0},
    "ablation-no-descriptor": {"model.use_descriptor": False},
    "ablation-no-source-warp": {"model.use_source_warp": False},
    "ablation-no-driver-augmentation": {"data.driver_augmentation": False},
    "ablation-with-background": {
        "model.predict_matte": False,
        "model.predict_background": True,
        "data.predict_background": True,
        "data.random_background": False,
        "loss.matte": 0,
    },
}


def flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return out


@pytest.mark.parametrize("name", config_names())
def test_every_shipped_config_is_valid_for_its_command(name: str) -> None:
    schemas = {"gaze": TrainGazeConfig, "head-pose": TrainHeadPoseConfig, "student": TrainStudentConfig}
    if "-hr" in name:
        load_config(TrainEnhancerConfig, name)
        return
    load_config(next((s for prefix, s in schemas.items() if name.startswith(prefix)), TrainBaseConfig), name)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_nano_but_for_what_it_takes_away(name: str) -> None:
    nano, other = (flat(load_config(TrainBaseConfig, n).model_dump()) for n in ("nano", name))
    assert {k: v for k, v in other.items() if v != nano[k]} == ABLATIONS[name]


@pytest.mark.parametrize("half", ["data", "model"])
def test_weights_cannot_be_wrong_about_their_sources_backgrounds(half: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.predict_background is .* model\.predict_background is"):
        load_config(TrainBaseConfig, "nano", [f"{half}.predict_background=true"])


def test_no_ablation_is_forgotten() -> None:
    assert {n for n in config_names() if n.startswith("ablation")} == set(ABLATIONS)


def test_a_file_extends_a_file_beside_it_and_sections_merge(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: nano\noptim: {steps: 7}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\noptim: {batch_size: 3}\n")
    nano, ours = load_config(TrainBaseConfig, "nano"), load_config(TrainBaseConfig, tmp_path / "b.yaml", ["run.seed=5"])
    assert (ours.optim.steps, ours.optim.batch_size, ours.run.seed) == (7, 3, 5)
    assert ours.model == nano.model and ours.optim.learning_rate == nano.optim.learning_rate


def test_lists_are_replaced_not_merged(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: gaze-nano\nmodel: {widths: [[8], [8]]}\n")
    assert load_config(TrainGazeConfig, tmp_path / "a.yaml").model.widths == ((8,), (8,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: a.yaml\n", "extends itself"),
        ("extends: nowhere\n", "no config named"),
        ("extends: [1]\n", "expected a name"),
    ],
)
def test_what_cannot_be_extended_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(TrainBaseConfig, tmp_path / "a.yaml")
