"""The training half of `megaportraits ablate`: every config on the same number of samples, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megaportraits.config import TrainBaseConfig, load_config
from megaportraits.errors import ConfigError, TrainingError
from megaportraits.reading import is_file, parse_yaml, read_text

_ANOTHER = "Choose another --out, or the same options."


def train_trials(
    configs: Sequence[str],
    data: Path,
    out: Path,
    samples: int,
    overrides: Sequence[str],
    *,
    head_pose: Path | None = None,
) -> dict[str, Path]:
    """Train base models that differ in their configs only; finished runs are taken as they are.

    Args:
        configs: shipped names or YAML files, different ones.
        data: training shards, or a folder with `train` and `val`.
        out: runs lie in `out/runs/NAME`.
        samples: the budget of each; rounded up to whole steps.
        overrides: of all configs, `a.b=c`.
        head_pose: weights of the head-pose network that all start with, which the paper's configs need.

    Returns:
        Weights by name of the config.

    Raises:
        ConfigError: two configs of one name, or one that is not valid; told before anything is trained.
        TrainingError: a folder holds a run of another config or budget, or a run was stopped by a signal.
    """
    names = [Path(config).stem if config.endswith((".yaml", ".yml")) else config for config in configs]
    if len(set(names)) < len(names):
        raise ConfigError(f"Expected different configs, got {', '.join(names)}.", fix="Rename one of the files.")
    plans = {name: _budgeted(config, data, samples, overrides) for name, config in zip(names, configs, strict=True)}
    folders = {name: out / "runs" / name for name in names}
    for name, plan in plans.items():
        _check_same(folders[name], plan)
    return {name: _train(plan, folders[name], head_pose) for name, plan in plans.items()}


def _budgeted(config: str, data: Path, samples: int, overrides: Sequence[str]) -> TrainBaseConfig:
    from megaportraits.training.command import data_paths

    chosen = [*data_paths(data), *overrides]
    batch = load_config(TrainBaseConfig, config, chosen).optim.batch_size
    return load_config(TrainBaseConfig, config, [*chosen, f"optim.steps={-(-samples // batch)}"])


def _check_same(folder: Path, plan: TrainBaseConfig) -> None:
    noted = folder / "config.yaml"
    if is_file(noted, ConfigError) and _noted(noted) != plan.model_dump(mode="json"):
        raise TrainingError(f"{folder} holds a run of another config, budget or data", fix=_ANOTHER)


def _noted(path: Path) -> Any:
    return parse_yaml(read_text(path, TrainingError, fix=_ANOTHER), str(path), TrainingError, fix=_ANOTHER)


def _train(plan: TrainBaseConfig, folder: Path, head_pose: Path | None) -> Path:
    from megaportraits.training.base import train_base

    done = folder / "trained"
    if not done.is_file():
        reached = train_base(plan, folder, resume=(folder / "config.yaml").is_file(), head_pose=head_pose)
        if reached < plan.optim.steps:
            raise TrainingError(f"{folder} was stopped at step {reached}", fix="The same line goes on from there.")
        done.touch()
    return folder / "base.safetensors"
