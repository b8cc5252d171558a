"""The training part of `megaportraits ablate`: train every config on the same number of samples, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megaportraits.config import TrainBaseConfig, TrainEnhancerConfig, load_config
from megaportraits.errors import ConfigError, TrainingError
from megaportraits.reading import is_file, parse_yaml, read_text

_ANOTHER = "Choose another --out, or the same options."

Plan = TrainBaseConfig | TrainEnhancerConfig


def train_trials(
    configs: Sequence[str],
    data: Path,
    out: Path,
    samples: int,
    overrides: Sequence[str],
    *,
    head_pose: Path | None = None,
    init: Path | None = None,
    base: str | None = None,
) -> dict[str, str]:
    """Train base models, or enhancers of one base model, that differ only in their configs. Finished runs are kept.

    Args:
        configs: distinct shipped names or YAML files.
        data: training shards, or a folder with `train` and `val`; shards of photographs for enhancers.
        out: output folder; the runs are in `out/runs/NAME`.
        samples: number of training samples for each config; rounded up to whole steps.
        overrides: overrides `a.b=c` for all configs.
        head_pose: initial weights of the head-pose network for all base models; the paper's configs need them.
        init: initial weights for all base models.
        base: the frozen base model, by name or file; the configs are then configs of enhancers.

    Returns:
        For each config's name, the value for `evaluate --weights`: BASE, or BASE+ENHANCER.

    Raises:
        ConfigError: two configs have the same name, or one is invalid; raised before any training starts.
        TrainingError: a folder holds a run of another config or budget, or a run was stopped by a signal.
    """
    names = [Path(config).stem if config.endswith((".yaml", ".yml")) else config for config in configs]
    if len(set(names)) < len(names):
        raise ConfigError(f"Expected different configs, got {', '.join(names)}.", fix="Rename one of the files.")
    if base is not None and (head_pose or init):
        raise ConfigError(
            "--base ablates enhancers, --head-pose and --init base models", fix="Leave out what does not belong."
        )
    plans = {
        name: _budgeted(config, data, samples, overrides, base) for name, config in zip(names, configs, strict=True)
    }
    folders = {name: out / "runs" / name for name in names}
    for name, plan in plans.items():
        _check_same(folders[name], plan)
    return {name: _train(plan, folders[name], head_pose, init) for name, plan in plans.items()}


def _budgeted(config: str, data: Path, samples: int, overrides: Sequence[str], base: str | None) -> Plan:
    from megaportraits.commands.train import data_paths

    chosen = [*data_paths(data), *([] if base is None else [("base", base)]), *overrides]

    def load(*more: str) -> Plan:
        if base is None:
            return load_config(TrainBaseConfig, config, [*chosen, *more])
        return load_config(TrainEnhancerConfig, config, [*chosen, *more])

    try:
        batch = load().optim.batch_size
    except ConfigError as error:
        if base is None and "-hr" in Path(config).stem:
            fix = "Configs of enhancers need --base, the model that they enhance."
            raise ConfigError(error.message, fix=fix) from error
        raise
    return load(f"optim.steps={-(-samples // batch)}")


def _check_same(folder: Path, plan: Plan) -> None:
    noted = folder / "config.yaml"
    if is_file(noted, ConfigError) and _noted(noted) != plan.model_dump(mode="json"):
        raise TrainingError(f"{folder} holds a run of another config, budget or data", fix=_ANOTHER)


def _noted(path: Path) -> Any:
    return parse_yaml(read_text(path, TrainingError, fix=_ANOTHER), str(path), TrainingError, fix=_ANOTHER)


def _train(plan: Plan, folder: Path, head_pose: Path | None, init: Path | None) -> str:
    from megaportraits.training.base import train_base
    from megaportraits.training.enhancer import train_enhancer

    done, resume = folder / "trained", (folder / "config.yaml").is_file()
    if not done.is_file():
        reached = (
            train_enhancer(plan, folder, resume=resume)
            if isinstance(plan, TrainEnhancerConfig)
            else train_base(plan, folder, resume=resume, head_pose=head_pose, init=init)
        )
        if reached < plan.optim.steps:
            raise TrainingError(f"{folder} was stopped at step {reached}", fix="Repeat the command to resume.")
        done.touch()
    if isinstance(plan, TrainEnhancerConfig):
        return f"{plan.base}+{folder / 'enhancer.safetensors'}"
    return str(folder / "base.safetensors")
