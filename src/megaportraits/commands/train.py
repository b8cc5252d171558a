"""`megaportraits train ...`. Heavy packages are imported inside the functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from megaportraits.commands.torchrun import rank
from megaportraits.errors import ConfigError, DataError, TrainingError

if TYPE_CHECKING:
    from megaportraits.config import (
        Config,
        Override,
        TrainBaseConfig,
        TrainBaselineConfig,
        TrainComponentLandmarksConfig,
        TrainEnhancerConfig,
        TrainGazeConfig,
        TrainHeadPoseConfig,
        TrainHiFaceGanConfig,
    )

    _Run = (
        TrainBaseConfig
        | TrainBaselineConfig
        | TrainComponentLandmarksConfig
        | TrainEnhancerConfig
        | TrainGazeConfig
        | TrainHeadPoseConfig
        | TrainHiFaceGanConfig
    )

C = TypeVar("C", bound="Config")
R = TypeVar("R", bound="_Run")

train_app = typer.Typer(
    help="Train a model. Ctrl-C writes a checkpoint and stops; --resume continues exactly.", no_args_is_help=True
)

DataOption = Annotated[
    str | None,
    typer.Option(
        help="Folder of training shards (or with train/ and val/); for base and motion also an address. "
        "A resumed run uses its own unless this is given."
    ),
]
OutOption = Annotated[Path, typer.Option(help="Run folder: config, statistics, sample grids, checkpoints, weights.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Resume the run in --out, with its own config.yaml and the overrides in --set.")
]
OverridesOption = Annotated[list[str] | None, typer.Option("--set", help="Override a config value: a.b=c.")]


@train_app.command("base")
def train_base(
    out: OutOption,
    data: DataOption = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="A shipped config (nano, nano-paper, paper-256, paper-512) or a YAML file.", show_default="nano"
        ),
    ] = None,
    resume: ResumeOption = False,
    init: Annotated[Path | None, typer.Option(help="Start from these weights (.safetensors).")] = None,
    head_pose: Annotated[
        Path | None, typer.Option(help="Start the head-pose network from these weights (train head-pose).")
    ] = None,
    motion: Annotated[Path | None, typer.Option(help="Start E_mtn from these weights (train motion).")] = None,
    overrides: OverridesOption = None,
) -> None:
    """Train the base model."""
    from megaportraits.config import TrainBaseConfig
    from megaportraits.training.base import train_base as train

    chosen = [*data_paths(data, resume=resume), *(overrides or [])]
    started = partial(train, init=init, head_pose=head_pose, motion=motion)
    _run(started, TrainBaseConfig, config, "nano", chosen, out, resume=resume)


@train_app.command("motion")
def train_motion(
    out: OutOption,
    data: DataOption = None,
    config: Annotated[
        str | None, typer.Option(help="A base model's config: nano, or a YAML file.", show_default="nano")
    ] = None,
    resume: ResumeOption = False,
    overrides: OverridesOption = None,
) -> None:
    """Pre-train the base model's motion encoder on synthetic clips, whose motion labels are exact."""
    from megaportraits.config import TrainBaseConfig
    from megaportraits.training.motion import train_motion as train

    chosen = [*data_paths(data, resume=resume), *(overrides or [])]
    _run(train, TrainBaseConfig, config, "nano", chosen, out, resume=resume)


@train_app.command("enhancer")
def train_enhancer(
    out: OutOption,
    data: DataOption = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="nano-hr, nano-hr-no-cycle, nano-hr-no-source-skip, paper-hr or a YAML file.", show_default="nano-hr"
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The frozen base model: a shipped name or a .safetensors file.")
    ] = None,
    resume: ResumeOption = False,
    overrides: OverridesOption = None,
) -> None:
    """Train the enhancer, which doubles a base model's resolution, on shards of photographs (`prepare`)."""
    from megaportraits.config import TrainEnhancerConfig
    from megaportraits.training.enhancer import train_enhancer as train

    chosen = [*data_paths(data, resume=resume), *([("base", base)] if base else []), *(overrides or [])]
    _run(train, TrainEnhancerConfig, config, "nano-hr", chosen, out, resume=resume)


@train_app.command("baseline")
def train_baseline(
    out: OutOption,
    data: DataOption = None,
    config: Annotated[
        str | None,
        typer.Option(help="fomm, fomm-nano, face-vid2vid, face-vid2vid-nano or a YAML file.", show_default="fomm-nano"),
    ] = None,
    resume: ResumeOption = False,
    overrides: OverridesOption = None,
) -> None:
    """Train a method that the paper compares with, on the same pairs as the base model."""
    from megaportraits.config import TrainBaselineConfig
    from megaportraits.training.baseline import train_baseline as train

    chosen = [*data_paths(data, resume=resume), *(overrides or [])]
    _run(train, TrainBaselineConfig, config, "fomm-nano", chosen, out, resume=resume)


@train_app.command("hifacegan")
def train_hifacegan(
    out: OutOption,
    data: DataOption = None,
    config: Annotated[
        str | None, typer.Option(help="hifacegan, hifacegan-nano or a YAML file.", show_default="hifacegan-nano")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The frozen base model: a shipped name or a .safetensors file.")
    ] = None,
    resume: ResumeOption = False,
    overrides: OverridesOption = None,
) -> None:
    """Train HiFaceGAN in place of the enhancer, on the same photographs (Table 2)."""
    from megaportraits.config import TrainHiFaceGanConfig
    from megaportraits.training.enhancer import train_enhancer as train

    chosen = [*data_paths(data, resume=resume), *([("base", base)] if base else []), *(overrides or [])]
    _run(train, TrainHiFaceGanConfig, config, "hifacegan-nano", chosen, out, resume=resume)


@train_app.command("one-stage")
def train_one_stage(
    out: OutOption,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of shards of photographs; a resumed run uses its own.")
    ] = None,
    data: DataOption = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="one-stage-512-frozen, one-stage-512-joint or a YAML file.", show_default="one-stage-512-frozen"
        ),
    ] = None,
    resume: ResumeOption = False,
    init: Annotated[Path | None, typer.Option(help="Start from these weights of a base model (.safetensors).")] = None,
    head_pose: Annotated[
        Path | None, typer.Option(help="Start the head-pose network from these weights (train head-pose).")
    ] = None,
    overrides: OverridesOption = None,
) -> None:
    """Train one model on videos and photographs together, the paper's alternative to two stages (B.2)."""
    from megaportraits.config import TrainOneStageConfig
    from megaportraits.training.one_stage import train_one_stage as train

    if photos is None and not resume:
        raise ConfigError("--photos is missing: no photographs to train on", fix="Name a folder that `prepare` made.")
    named: list[Override] = [] if photos is None else [("photos.data.path", training_part(photos))]
    chosen = [*data_paths(data, resume=resume), *named, *(overrides or [])]
    started = partial(train, init=init, head_pose=head_pose)
    _run(started, TrainOneStageConfig, config, "one-stage-512-frozen", chosen, out, resume=resume)


@train_app.command("gaze")
def train_gaze(
    out: OutOption,
    data: DataOption = None,
    config: Annotated[
        str | None, typer.Option(help="gaze, gaze-nano or a YAML file.", show_default="gaze-nano")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels of a teacher for distillation, .csv or .jsonl.")] = None,
    resume: ResumeOption = False,
    overrides: OverridesOption = None,
) -> None:
    """Train the gaze and blink network, whose features the paper's gaze loss compares."""
    from megaportraits.config import TrainGazeConfig
    from megaportraits.training.gaze import train_gaze as train

    named = [("data.labels", str(labels))] if labels else []
    chosen = [*data_paths(data, resume=resume), *named, *(overrides or [])]
    _run(train, TrainGazeConfig, config, "gaze-nano", chosen, out, resume=resume)


@train_app.command("component-landmarks")
def train_component_landmarks(
    out: OutOption,
    data: DataOption = None,
    config: Annotated[
        str | None, typer.Option(help="component-landmarks or a YAML file.", show_default="component-landmarks")
    ] = None,
    resume: ResumeOption = False,
    overrides: OverridesOption = None,
) -> None:
    """Train the network that finds eyelids, irises and lips in crops, for the loss `component_landmarks`."""
    from megaportraits.config import TrainComponentLandmarksConfig
    from megaportraits.training.component_landmarks import train_component_landmarks as train

    chosen = [*data_paths(data, resume=resume), *(overrides or [])]
    _run(train, TrainComponentLandmarksConfig, config, "component-landmarks", chosen, out, resume=resume)


@train_app.command("head-pose")
def train_head_pose(
    out: OutOption,
    data: DataOption = None,
    config: Annotated[
        str | None, typer.Option(help="head-pose, head-pose-nano or a YAML file.", show_default="head-pose-nano")
    ] = None,
    resume: ResumeOption = False,
    overrides: OverridesOption = None,
) -> None:
    """Train the head-pose network, the part of E_mtn that is pre-trained in the paper."""
    from megaportraits.config import TrainHeadPoseConfig
    from megaportraits.training.head_pose import train_head_pose as train

    chosen = [*data_paths(data, resume=resume), *(overrides or [])]
    _run(train, TrainHeadPoseConfig, config, "head-pose-nano", chosen, out, resume=resume)


def _run(
    train: Callable[..., int],
    schema: type[R],
    config: str | None,
    default: str,
    chosen: Sequence[Override],
    out: Path,
    *,
    resume: bool,
) -> None:
    """Settle the config and train. The other arguments are those of `settle`.

    Args:
        train: takes the config, the run folder and `resume`; returns the step reached.

    Raises:
        Exit: with code 130, if a signal ended the run before its last step, so that scripts do not continue.
    """
    settled = settle(schema, config, default, chosen, out, resume=resume)
    if train(settled, out, resume=resume) < settled.optim.steps:
        raise typer.Exit(130)


def settle(
    schema: type[C], config: str | None, default: str, chosen: Sequence[Override], out: Path, *, resume: bool
) -> C:
    """The config of a new or resumed run. A resumed run uses its own config and the overrides; changes are printed.

    Args:
        schema: the command's config class.
        config: the requested config; None: `default` for a new run, the run's own for a resumed one.
        default: the command's default config.
        chosen: overrides.
        out: the run folder.
        resume: whether to resume the run in `out`.

    Raises:
        ConfigError: see `load_config`.
        TrainingError: `resume` is true, and `out` holds no run.
    """
    from megaportraits.config import differences, load_config
    from megaportraits.reading import is_file

    if not resume:
        return load_config(schema, config or default, chosen)
    record = out / "config.yaml"
    if not is_file(record, TrainingError):
        raise TrainingError(
            f"{out} holds no run to resume", fix="Check --out, or leave out --resume to start a run there."
        )
    settled = load_config(schema, record, chosen)
    _tell("Changed on resuming", differences(load_config(schema, record), settled))
    if config is not None:
        _tell(f"Kept from the run, not from {config}", differences(load_config(schema, config, chosen), settled))
    return settled


def _tell(what: str, lines: list[str]) -> None:
    if lines and rank() == 0:  # under torchrun, only process 0 prints
        typer.echo(f"{what}: {'; '.join(lines)}", err=True)


def data_paths(data: str | Path | None, *, resume: bool = False) -> list[Override]:
    """Overrides that set the folder of shards, or its `train` and `val`. Empty if a resumed run uses its own.

    Raises:
        ConfigError: no data is given, and the run is not resumed.
    """
    from megaportraits.reading import is_folder

    if data is None:
        if resume:
            return []
        raise ConfigError("--data is missing: nothing to train on", fix="Name a folder of shards (synth, prepare).")
    if "://" in str(data):  # streamed data: the address is used as given
        return [("data.path", str(data))]
    data = Path(data)
    part = training_part(data)
    paths: list[Override] = [("data.path", part)]
    if part != str(data) and is_folder(data / "val", DataError):
        paths.append(("data.validation", str(data / "val")))
    return paths


def training_part(data: str | Path) -> str:
    """A folder's `train` if it exists; otherwise the folder or mixture itself."""
    from megaportraits.reading import is_folder

    nested = Path(data) / "train"
    return str(nested if is_folder(nested, DataError) else data)
