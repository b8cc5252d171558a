from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from megaportraits.commands.ablation import train_trials
from megaportraits.commands.evaluation import ablate
from megaportraits.config import ModelConfig
from megaportraits.errors import ConfigError, TrainingError
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_base, save_base
from tests.conftest import TINY
from tests.models.test_enhancer import TINY_HR

DRIVER = Path(__file__).parents[2] / "src/megaportraits/assets/demo/driver.mp4"
LOSS = {"perceptual": 0, "face": 0, "gaze": 0, "adversarial": 0, "feature_matching": 0, "reconstruction": 1}
RUN = {"accelerator": "cpu", "tensorboard": False, "teacher_pose": True}


@pytest.fixture
def configs(tmp_path: Path) -> list[str]:
    """A tiny config, and the same without the contrastive loss."""
    whole = {"model": TINY, "data": {"workers": 0}, "optim": {"batch_size": 3}, "loss": LOSS, "run": RUN}
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(whole))
    (tmp_path / "without.yaml").write_text("extends: whole.yaml\nloss: {contrastive: 0}\n")
    return [str(tmp_path / "whole.yaml"), str(tmp_path / "without.yaml")]


def test_every_config_gets_the_same_budget_and_finished_runs_are_kept(
    configs: list[str], clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    trials = train_trials(configs, clips, out, samples=4, overrides=["run.seed=3"])
    assert list(trials) == ["whole", "without"]
    noted = [yaml.safe_load((out / "runs" / name / "config.yaml").read_text()) for name in trials]
    assert [config["optim"]["steps"] for config in noted] == [2, 2]  # 4 samples in batches of 3
    assert [config["loss"]["contrastive"] for config in noted] == [2.0, 0.0]
    assert load_base(trials["without"]).config.name == "tiny"
    before = {path: Path(path).stat().st_mtime_ns for path in trials.values()}
    assert train_trials(configs, clips, out, samples=4, overrides=["run.seed=3"]) == trials
    assert {path: Path(path).stat().st_mtime_ns for path in trials.values()} == before
    with pytest.raises(TrainingError, match="another config, budget or data"):
        train_trials(configs, clips, out, samples=40, overrides=["run.seed=3"])


def test_a_stopped_trial_goes_on(configs: list[str], clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = Path(train_trials(configs[:1], clips, out, samples=6, overrides=[])["whole"]).read_bytes()
    (out / "runs" / "whole" / "trained").unlink()
    assert Path(train_trials(configs[:1], clips, out, samples=6, overrides=[])["whole"]).read_bytes() == first


def test_enhancers_of_one_base_are_ablated_too(
    clips: Path, tiny_config: ModelConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    base, out = tmp_path / "base.safetensors", tmp_path / "out"
    save_base(base, BaseModel(tiny_config))
    whole = {
        "model": TINY_HR,
        "discriminator": {"widths": [4, 6], "strides": [2, 2], "scales": 1},
        "data": {"workers": 0, "min_size": 32},
        "optim": {"batch_size": 3, "spectral_norm": False},
        "run": {"accelerator": "cpu", "tensorboard": False},
    }
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(whole))
    (tmp_path / "no-cycle.yaml").write_text("extends: whole.yaml\nloss: {cross_adversarial: 0, cycle: 0}\n")
    names = [str(tmp_path / "whole.yaml"), str(tmp_path / "no-cycle.yaml")]
    common = {"samples": 3, "clips": [DRIVER], "protocol": ["self"], "frames": 2, "device": "cpu"}
    ablate(config=names, data=clips, out=out, base=str(base), **common)
    rows = [line.split(" | ")[0] for line in (out / "ablation.md").read_text().splitlines() if line.startswith("| ")]
    assert rows == ["| method", "| whole", "| no-cycle", "| aligned copy"]
    noted = yaml.safe_load((out / "runs/no-cycle/config.yaml").read_text())
    assert noted["base"] == str(base) and noted["loss"]["cycle"] == 0
    for config, options, message in (
        ("paper-hr", {}, "--base"),
        (names[0], {"base": "nano", "head_pose": base}, "what does not belong"),
    ):
        with pytest.raises(ConfigError) as error:
            train_trials([config], clips, tmp_path / "other", samples=3, overrides=[], **options)
        assert message in error.value.fix


def test_mistakes_are_reported_before_anything_is_trained(configs: list[str], clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="different configs"):
        train_trials([configs[0], configs[0]], clips, tmp_path / "out", samples=4, overrides=[])
    with pytest.raises(ConfigError, match="no config named 'nothing'"):
        train_trials([configs[0], "nothing"], clips, tmp_path / "out", samples=4, overrides=[])
    assert not (tmp_path / "out").exists()


def test_the_table_has_a_row_for_every_config_and_for_the_baseline(
    configs: list[str], clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    ablate(config=configs, data=clips, out=out, samples=3, clips=[DRIVER], protocol=["self"], frames=2, device="cpu")
    table = (out / "ablation.md").read_text()
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")] == [
        "| method",
        "| whole",
        "| without",
        "| aligned copy",
    ]
    assert table in capsys.readouterr().out
    assert (out / "pairs.csv").is_file() and (out / "report.html").is_file()


def test_under_torchrun_only_the_first_process_measures(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[object] = []

    def note(*arguments: object, **_: object) -> dict[str, str]:
        trained.append(arguments[:2])
        return {}

    monkeypatch.setattr("megaportraits.commands.ablation.train_trials", note)
    monkeypatch.setenv("RANK", "1")
    ablate(config=["nano"], data=clips, out=tmp_path / "out", samples=3, clips=[DRIVER])
    assert trained == [(["nano"], clips)] and not (tmp_path / "out").exists()
