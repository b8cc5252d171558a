from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from megaportraits.config import (
    TrainBaseConfig,
    TrainBaselineConfig,
    TrainComponentLandmarksConfig,
    TrainEnhancerConfig,
    TrainGazeConfig,
    TrainHeadPoseConfig,
    TrainHiFaceGanConfig,
    TrainOneStageConfig,
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
        "data.random_background": False,
        "loss.matte": 0,
    },
}


PAPER_ABLATIONS = {
    "paper-512-no-contrastive": {"loss.contrastive": 0},
    "paper-512-no-descriptor": {"model.use_descriptor": False},
    "paper-512-no-source-warp": {"model.use_source_warp": False},
    "paper-512-no-driver-augmentation": {"data.driver_augmentation": False},
    "paper-512-with-background": {
        "model.predict_background": True,
        "data.random_background": False,
    },
}


def flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return out


@pytest.mark.parametrize("name", config_names())
def test_every_shipped_config_is_valid_for_its_command(name: str) -> None:
    schemas = {
        "gaze": TrainGazeConfig,
        "component-landmarks": TrainComponentLandmarksConfig,
        "head-pose": TrainHeadPoseConfig,
        "student": TrainStudentConfig,
        "one-stage": TrainOneStageConfig,
        "fomm": TrainBaselineConfig,
        "hifacegan": TrainHiFaceGanConfig,
        "face-vid2vid": TrainBaselineConfig,
    }
    if "-hr" in name:
        load_config(TrainEnhancerConfig, name)
        return
    load_config(next((s for prefix, s in schemas.items() if name.startswith(prefix)), TrainBaseConfig), name)


@pytest.mark.parametrize(
    ("whole", "name", "changes"),
    [("nano", *item) for item in ABLATIONS.items()] + [("paper-512", *item) for item in PAPER_ABLATIONS.items()],
)
def test_an_ablation_is_the_whole_but_for_what_it_takes_away(whole: str, name: str, changes: dict[str, Any]) -> None:
    before, other = (flat(load_config(TrainBaseConfig, n).model_dump()) for n in (whole, name))
    assert {k: v for k, v in other.items() if v != before[k]} == changes


def test_the_papers_enhancer_is_ablated_by_its_unsupervised_part() -> None:
    before, other = (flat(load_config(TrainEnhancerConfig, n).model_dump()) for n in ("paper-hr", "paper-hr-no-cycle"))
    assert {k: v for k, v in other.items() if v != before[k]} == {"loss.cross_adversarial": 0, "loss.cycle": 0}
    with pytest.raises(ConfigError, match="upsample_input"):
        load_config(TrainBaseConfig, "paper-hr")  # it is no base model's


def test_one_stage_is_the_base_with_one_more_block_on_both_objectives() -> None:
    base = flat(load_config(TrainBaseConfig, "paper-512").model_dump())
    for name, parts in (("one-stage-512-joint", ()), ("one-stage-512-frozen", ("projection", "generator_2d"))):
        config = load_config(TrainOneStageConfig, name)
        other = flat(config.model_dump(exclude={"photos"}))
        wanted = {"model.name": name, "model.image_size": 1024, "model.generator_2d.fine": (32,), "optim.parts": parts}
        changed = {k: v for k, v in wanted.items() if v != base[k]}
        assert {k: v for k, v in other.items() if v != base[k]} == changed
        assert config.model.coarse_size == 512
        photos = config.photos
        weights = (photos.reconstruction, photos.adversarial, photos.feature_matching, photos.cross_adversarial)
        assert weights == (100, 1, 100, 1)


def test_nano_paper_is_nano_without_our_additions() -> None:
    before, other = (flat(load_config(TrainBaseConfig, n).model_dump()) for n in ("nano", "nano-paper"))
    changed = {k: v for k, v in other.items() if v != before[k]}
    assert changed.pop("model.name") == "nano-paper"
    assert changed == dict.fromkeys(
        [
            *(f"model.{name}" for name in ("source_skip", "refine_flow", "mirror_hidden")),
            *(f"model.{name}" for name in ("expression_in_generator", "expression_change")),
            *(f"loss.{name}" for name in ("expression", "warp", "copied", "painted", "surface", "flow", "landmarks")),
        ],
        0,
    )


def test_no_ablation_is_forgotten() -> None:
    assert {n for n in config_names() if n.startswith("ablation")} == set(ABLATIONS)
    assert {n for n in config_names() if n.startswith("paper-512-")} == set(PAPER_ABLATIONS)


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


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("data.workers=-1", "data.workers"),
        ("data.workers=100000", "data.workers"),
        ("run.accelerator=banana", "run.accelerator"),
        ("run.seed=-1", "run.seed"),
        ("run.log_every=0", "run.log_every"),
        ("run.keep_checkpoints=0", "run.keep_checkpoints"),
        ("run.checkpoint_minutes=.nan", "run.checkpoint_minutes"),
        ("optim.betas=[2,3]", "optim.betas"),
        ("optim.betas=[0.9]", "optim.betas"),
        ("optim.learning_rate=.inf", "optim.learning_rate"),
        ("optim.steps=-5", "optim.steps"),
        ("optim.ema_decay=1.5", "optim.ema_decay"),
        ("loss.matte=-1", "loss.matte"),
        ("loss.pose=.nan", "loss.pose"),
        ("model.groups=0", "model.groups"),
        ("model.image_size=0", "model.image_size"),
        ("model.generator_2d.blocks=100000000", "model.generator_2d.blocks"),
        ("model.appearance.widths=[]", "model.appearance.widths"),
        ("model.generator_3d.strides=[[0,2,2],[2,2,2]]", "model.generator_3d.strides"),
        ("discriminator.strides=[0,2,2,1]", "discriminator.strides"),
        ("optim.steps=" + "9" * 4000, "optim.steps"),
        ("model={groups: &a [1], name: [*a, *a]}", "model.name"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        load_config(TrainBaseConfig, "nano", [override])


def test_every_number_of_a_config_has_a_range() -> None:
    """A number without one is a way to a hang, a traceback or a run without an end."""

    def unbounded(schema: Any, where: str) -> list[str]:
        if not isinstance(schema, dict):
            return [name for part in schema for name in unbounded(part, where)] if isinstance(schema, list) else []
        found = [name for key, part in schema.items() for name in unbounded(part, f"{where}.{key}")]
        low = {"minimum", "exclusiveMinimum"} & set(schema)
        high = {"maximum", "exclusiveMaximum"} & set(schema)
        open_ended = schema.get("type") in ("integer", "number") and not (low and high) and "const" not in schema
        return [*found, where] if open_ended and "enum" not in schema else found

    for schema in (TrainBaseConfig, TrainEnhancerConfig, TrainGazeConfig, TrainHeadPoseConfig, TrainStudentConfig):
        assert unbounded(schema.model_json_schema(), schema.__name__) == []


def test_a_chain_of_files_that_comes_back_by_another_path_ends(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "a.yaml").write_text("extends: x/../a.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_config(TrainBaseConfig, tmp_path / "a.yaml")


def test_a_config_that_is_not_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("extends: nano".encode("utf-16"))
    with pytest.raises(ConfigError, match="UTF-16"):
        load_config(TrainBaseConfig, tmp_path / "a.yaml")


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("".join(f"k{i}: 1\n" for i in range(500)))
    with pytest.raises(ConfigError, match=r"500 problem\(s\)[\s\S]*and 480 more"):
        load_config(TrainBaseConfig, tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("steps=2", "optim.steps"),
        ("optim.batchsize=8", "optim.batch_size"),
        ("los.gaze=1", "loss"),
        ("run.perceptual=1", "loss.perceptual"),
        ("optm={steps: 1}", "optim"),
    ],
)
def test_an_unknown_key_comes_with_the_key_that_was_meant(override: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"did you mean (\S+ or )*{re.escape(meant)}\b"):
        load_config(TrainBaseConfig, "nano", [override])


def test_a_key_that_is_like_no_other_comes_without_a_suggestion() -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(TrainBaseConfig, "nano", ["qqqq.zzzz=1"])
    assert "did you mean" not in refused.value.message
