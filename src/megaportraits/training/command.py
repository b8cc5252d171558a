"""`megaportraits train ...`: one typed function per command, heavy imports inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

train_app = typer.Typer(
    help="Train a stage; Ctrl-C checkpoints and leaves, --resume goes on exactly.", no_args_is_help=True
)

Data = Annotated[
    str, typer.Option(help="Folder of training shards (or with train/ and val/); for base and motion also an address.")
]
Out = Annotated[Path, typer.Option(help="Run folder: config, statistics, sample grids, checkpoints, weights.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override a config value: a.b=c.")]


@train_app.command("base")
def train_base(
    data: Data,
    out: Out,
    config: Annotated[str, typer.Option(help="A shipped config (nano, base-256, base-512) or a YAML file.")] = "nano",
    resume: Resume = False,
    init: Annotated[Path | None, typer.Option(help="Start from these weights (.safetensors).")] = None,
    head_pose: Annotated[
        Path | None, typer.Option(help="Start the head-pose network from these weights (train head-pose).")
    ] = None,
    motion: Annotated[Path | None, typer.Option(help="Start E_mtn from these weights (train motion).")] = None,
    overrides: Overrides = None,
) -> None:
    """Train the base model."""
    from megaportraits.config import TrainBaseConfig, load_config
    from megaportraits.training.base import train_base as train

    resolved = load_config(TrainBaseConfig, config, [*data_paths(data), *(overrides or [])])
    train(resolved, out, resume=resume, init=init, head_pose=head_pose, motion=motion)


@train_app.command("motion")
def train_motion(
    data: Data,
    out: Out,
    config: Annotated[str, typer.Option(help="A base model's config: nano, or a YAML file.")] = "nano",
    resume: Resume = False,
    overrides: Overrides = None,
) -> None:
    """Pre-train the base model's motion encoder on synthetic clips, which know every motion exactly."""
    from megaportraits.config import TrainBaseConfig, load_config
    from megaportraits.training.motion import train_motion as train

    train(load_config(TrainBaseConfig, config, [*data_paths(data), *(overrides or [])]), out, resume=resume)


@train_app.command("enhancer")
def train_enhancer(
    data: Data,
    out: Out,
    config: Annotated[
        str, typer.Option(help="nano-hr, nano-hr-no-cycle, nano-hr-no-source-skip, paper-hr or a file.")
    ] = "nano-hr",
    base: Annotated[
        str | None, typer.Option(help="The frozen base model: a shipped name or a .safetensors file.")
    ] = None,
    resume: Resume = False,
    overrides: Overrides = None,
) -> None:
    """Train the enhancer, which doubles a base model's size, on still photographs (`prepare` makes the shards)."""
    from megaportraits.config import TrainEnhancerConfig, load_config
    from megaportraits.training.enhancer import train_enhancer as train

    chosen = [*data_paths(data), *([f"base={base}"] if base else []), *(overrides or [])]
    train(load_config(TrainEnhancerConfig, config, chosen), out, resume=resume)


@train_app.command("gaze")
def train_gaze(
    data: Data,
    out: Out,
    config: Annotated[str, typer.Option(help="gaze, gaze-nano or a YAML file.")] = "gaze-nano",
    labels: Annotated[Path | None, typer.Option(help="A teacher's labels, .csv or .jsonl, to distil.")] = None,
    resume: Resume = False,
    overrides: Overrides = None,
) -> None:
    """Train the gaze and blink network, whose features are the paper's gaze loss."""
    from megaportraits.config import TrainGazeConfig, load_config
    from megaportraits.training.gaze import train_gaze as train

    chosen = [*data_paths(data), *([f"data.labels={labels}"] if labels else []), *(overrides or [])]
    train(load_config(TrainGazeConfig, config, chosen), out, resume=resume)


@train_app.command("head-pose")
def train_head_pose(
    data: Data,
    out: Out,
    config: Annotated[str, typer.Option(help="head-pose, head-pose-nano or a YAML file.")] = "head-pose-nano",
    resume: Resume = False,
    overrides: Overrides = None,
) -> None:
    """Train the head-pose network, the half of E_mtn that the paper takes pre-trained."""
    from megaportraits.config import TrainHeadPoseConfig, load_config
    from megaportraits.training.head_pose import train_head_pose as train

    train(load_config(TrainHeadPoseConfig, config, [*data_paths(data), *(overrides or [])]), out, resume=resume)


def data_paths(data: str | Path) -> list[str]:
    """Overrides that name a folder of shards, or its `train` and `val`."""
    if "://" in str(data):  # streamed: taken as it is given
        return [f"data.path={data}"]
    data = Path(data)
    nested = (data / "train").is_dir()
    paths = [f"data.path={data / 'train' if nested else data}"]
    if nested and (data / "val").is_dir():
        paths.append(f"data.validation={data / 'val'}")
    return paths
