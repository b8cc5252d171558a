"""The config that `megaportraits train ...` uses: the named config, or that of the run which is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from megaportraits.cli import app
from megaportraits.commands.train import data_paths, settle, train_app
from megaportraits.config import TrainBaseConfig, TrainEnhancerConfig, TrainGazeConfig, load_config
from megaportraits.errors import ConfigError, TrainingError
from megaportraits.training.run import Meter
from tests.training.test_scale import written
from tests.training.test_training import tiny_run


def train(*words: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, words)])


def test_a_resumed_run_keeps_its_own_config_but_for_what_is_set(clips: Path, tmp_path: Path) -> None:
    recipe, out = written(tiny_run(clips, steps=7), tmp_path / "recipe.yaml"), tmp_path / "run"
    first = train("base", "--config", recipe, "--data", clips, "--out", out, "--set", "optim.steps=1", "--set",
                  "run.seed=5", "--set", "optim.learning_rate=0.01")  # fmt: skip
    assert first.exit_code == 0, first.output
    before = yaml.safe_load((out / "config.yaml").read_text())
    again = train("base", "--out", out, "--resume", "--set", "optim.steps=2")
    assert again.exit_code == 0, again.output
    after = yaml.safe_load((out / "config.yaml").read_text())
    assert after["optim"].pop("steps") == 2 and before["optim"].pop("steps") == 1 and after == before
    assert (out / "checkpoints/step-00000002.pt").is_file()
    assert "Changed on resuming: optim.steps: 1 -> 2" in again.stderr


def test_a_config_that_is_named_for_a_resumed_run_is_reported_as_not_used(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tiny_run(clips, steps=7), tmp_path / "config.yaml")
    recipe = written(tiny_run(clips, steps=9), tmp_path / "recipe.yaml")
    chosen = ["loss.adversarial=1"]
    settled = settle(TrainBaseConfig, str(recipe), "nano", chosen, tmp_path, resume=True)
    assert (settled.optim.steps, settled.loss.adversarial) == (7, 1)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "Changed on resuming: loss.adversarial: 0.0 -> 1.0",
        f"Kept from the run, not from {recipe}: optim.steps: 9 -> 7",
    ]


def test_resumed_data_may_lie_elsewhere(clips: Path, tmp_path: Path) -> None:
    written(tiny_run(clips), tmp_path / "config.yaml")
    moved = settle(TrainBaseConfig, None, "nano", data_paths("elsewhere", resume=True), tmp_path, resume=True)
    kept = settle(TrainBaseConfig, None, "nano", data_paths(None, resume=True), tmp_path, resume=True)
    assert (moved.data.path, kept.data.path) == ("elsewhere", str(clips))
    assert moved.optim == kept.optim


def test_a_mistyped_folder_is_not_taken_for_a_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no run to resume"):
        settle(TrainBaseConfig, "nano", "nano", [], tmp_path / "mistyped", resume=True)
    assert not (tmp_path / "mistyped").exists()


def test_a_new_run_needs_data() -> None:
    with pytest.raises(ConfigError, match="--data is missing"):
        data_paths(None)


@pytest.mark.parametrize("text", ["2024", "/data/a #1", "/data/{a}", "null", "C: D"])
def test_paths_are_taken_as_they_are_whatever_yaml_would_make_of_them(text: str) -> None:
    assert load_config(TrainBaseConfig, "nano", data_paths(text)).data.path == text
    assert load_config(TrainGazeConfig, "gaze-nano", [("data.labels", text)]).data.labels == text
    assert load_config(TrainEnhancerConfig, "nano-hr", [("base", text)]).base == text


@pytest.mark.parametrize(
    ("stage", "file"),
    [("base", "base"), ("head-pose", "head_pose"), ("gaze", "gaze")],
)
def test_a_laptops_recipe_makes_its_first_step_as_the_readme_calls_it(
    stage: str, file: str, clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    small = ["optim.batch_size=2", "run.tensorboard=false", "data.workers=0"]
    steps = ["epochs=1"] if stage == "gaze" else ["optim.steps=1"]
    result = train(stage, "--data", clips, "--out", out, *(word for s in (*small, *steps) for word in ("--set", s)))
    assert result.exit_code == 0, result.output
    assert (out / f"{file}.safetensors").is_file()


def test_a_short_run_without_a_terminal_says_what_it_did_and_where_its_weights_lie(clips: Path, tmp_path: Path) -> None:
    recipe, out = written(tiny_run(clips, steps=2), tmp_path / "recipe.yaml"), tmp_path / "run"
    done = train("base", "--config", recipe, "--data", clips, "--out", out, "--set", "run.log_every=50")
    weights = out / "base.safetensors"
    first, losses, *_, last = done.stderr.splitlines()
    assert first == f"Training from step 0 to 2, 3 samples a step; weights: {weights}"
    assert losses.startswith("step 2  samples 6 ") and "total_generator" in losses
    assert last == f"Weights of step 2: {weights}" and weights.is_file()


def test_a_run_whose_losses_are_logged_rarely_still_prints_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(TrainBaseConfig, "nano")
    for quiet_seconds, lines in ((0.0, 2), (1e9, 0)):
        meter = Meter(config, quiet_seconds)
        for step in (1, 2):
            meter.add({"total": 1.0})
            meter.report_progress(step)
        told = capsys.readouterr().err.splitlines()
        assert len(told) == lines and all(f"step {n} of {config.optim.steps}, " in x for n, x in enumerate(told, 1))


TRAINS = {
    "base": "base.train_base",
    "motion": "motion.train_motion",
    "enhancer": "enhancer.train_enhancer",
    "baseline": "baseline.train_baseline",
    "hifacegan": "enhancer.train_enhancer",
    "one-stage": "one_stage.train_one_stage",
    "gaze": "gaze.train_gaze",
    "component-landmarks": "component_landmarks.train_component_landmarks",
    "head-pose": "head_pose.train_head_pose",
}


def test_the_table_has_every_command() -> None:
    assert TRAINS.keys() == {command.name for command in train_app.registered_commands}


@pytest.mark.parametrize("command", TRAINS)
@pytest.mark.parametrize("stopped", [True, False])
def test_a_command_exits_with_130_if_its_run_ended_early(
    command: str, stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: Any, out: Path, **_: Any) -> int:
        return int(config.optim.steps) - stopped

    monkeypatch.setattr(f"megaportraits.training.{TRAINS[command]}", train)
    photos = ["--photos", str(tmp_path)] if command == "one-stage" else []
    line = ["train", command, "--data", str(tmp_path), "--out", str(tmp_path / "run"), *photos]
    assert CliRunner().invoke(app, line).exit_code == (130 if stopped else 0)
