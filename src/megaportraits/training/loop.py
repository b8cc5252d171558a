"""The training loop: phases, precision, checkpoints, exact resume, statistics, sample grids."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import torch
import yaml
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from megaportraits.config import Config, OptimConfig, RunConfig
from megaportraits.errors import TrainingError
from megaportraits.training import checkpoint

Batch = dict[str, Tensor]


class Stage(Protocol):
    """What the loop needs of a stage; it is also an `nn.Module` with a `model`."""

    phases: tuple[str, ...]
    model: nn.Module

    def weights(self) -> dict[str, float]:
        """Weight per loss name."""

    def __call__(self, phase: str, batch: Batch, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of one phase, unweighted."""

    def sample(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """A picture (3, H, W) in [0, 1] of a fixed batch, and numbers about it."""

    def save(self, path: Path, model: nn.Module, *, step: int) -> None:
        """Write the weights that users get."""


@dataclass
class Run:
    """A run folder: `config.yaml`, `stats.jsonl`, `samples/`, `checkpoints/`, `base.safetensors`."""

    folder: Path

    def start(self, config: Config, *, resume: bool) -> None:
        """Make the folder; an existing run is only touched by resuming.

        Raises:
            TrainingError: the folder holds a run and `resume` is False.
        """
        if (self.folder / "config.yaml").exists() and not resume:
            raise TrainingError(
                f"{self.folder} already holds a run", fix="Add --resume to go on, or choose another --out."
            )
        (self.folder / "samples").mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")

    def rewind(self, step: int) -> None:
        """Drop statistics after `step`, which a resumed run will write again."""
        path = self.folder / "stats.jsonl"
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if line and json.loads(line)["step"] <= step]
            path.write_text("".join(line + "\n" for line in lines))

    def log(self, entry: dict[str, Any]) -> None:
        """Append one line of statistics."""
        with (self.folder / "stats.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def picture(self, step: int, image: Tensor) -> None:
        """Write a sample grid."""
        pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        cv2.imwrite(str(self.folder / "samples" / f"{step:08d}.png"), pixels[..., ::-1])


def learning_rate(optim: OptimConfig, step: int) -> float:
    """Linear warm-up, then a cosine from `learning_rate` to `final_learning_rate`."""
    if step < optim.warmup_steps:
        return optim.learning_rate * (step + 1) / optim.warmup_steps
    progress = (step - optim.warmup_steps) / max(1, optim.steps - optim.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return optim.final_learning_rate + (optim.learning_rate - optim.final_learning_rate) * cosine


def warmed_ema(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An exponential moving average whose decay rises as (1 + n) / (10 + n), so that it forgets the random start."""

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        n = int(count)
        keep = min(decay, (1 + n) / (10 + n))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value.to(mean), 1 - keep)

    return update


def fit(
    stage: Any,
    dataset: Dataset[Batch],
    validation: Dataset[Batch] | None,
    config: Any,
    folder: Path,
    *,
    resume: bool = False,
) -> int:
    """Train a stage to `config.optim.steps`, or until a signal; returns the step reached.

    Ctrl-C and SIGTERM finish the step, checkpoint and leave. The item of pair k depends on (seed, k) alone and every
    step's randomness on (seed, step) alone, so that a resumed run equals an undisturbed one bit for bit.
    """
    run, optim, settings = Run(folder), config.optim, config.run
    run.start(config, resume=resume)
    fabric = Fabric(accelerator=settings.accelerator, devices=settings.devices, precision=settings.precision)
    optimizer = torch.optim.AdamW(
        [p for p in stage.parameters() if p.requires_grad],
        lr=optim.learning_rate,
        betas=optim.betas,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
    )
    average = AveragedModel(stage.model, multi_avg_fn=warmed_ema(optim.ema_decay), use_buffers=True)
    state = checkpoint.latest(folder / "checkpoints") if resume else None
    first = 0
    if state is not None:
        first = _restore(state, stage, average, optimizer)
    run.rewind(first)
    module, optimizer = fabric.setup(stage, optimizer)
    average.to(fabric.device)
    batches = _batches(fabric, dataset, config, first)
    fixed = None if validation is None else fabric.to_device(_fixed_batch(validation, 8))
    meter = _Meter(config)
    last_save = time.monotonic()
    step = first
    with _stop_on_signals() as stopped:
        for step in range(first + 1, optim.steps + 1):
            losses = _step(fabric, module, optimizer, next(batches), config, step)
            average.update_parameters(stage.model)
            meter.add(losses)
            if step % settings.log_every == 0:
                run.log(meter.flush(step))
            if fixed is not None and (step % settings.sample_every == 0 or step == optim.steps):
                _sample(fabric, stage, average.module, fixed, run, step)
            due = time.monotonic() - last_save > settings.checkpoint_minutes * 60
            if due or stopped() or step == optim.steps:
                _save(run, stage, average, optimizer, step, settings)
                last_save = time.monotonic()
            if stopped():
                Console(stderr=True).print(f"Stopped at step {step}; go on with --resume.")
                break
    return step


def _step(fabric: Fabric, module: Any, optimizer: Any, batch: Batch, config: Any, step: int) -> dict[str, float]:
    values: dict[str, float] = {}
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config.optim, step - 1)
    for number, phase in enumerate(module.phases):
        generator = torch.Generator().manual_seed((config.run.seed * 1_000_003 + step) * 7 + number)
        losses = module(phase, batch, step, generator)
        weights = module.weights()
        total = sum((weights[name] * loss for name, loss in losses.items()), torch.zeros((), device=fabric.device))
        for name, loss in losses.items():
            values[name] = float(loss.detach())
            if not math.isfinite(values[name]):
                raise TrainingError(
                    f"loss {name!r} is {values[name]} at step {step}, phase {phase!r}",
                    fix="Resume from the last checkpoint with a smaller learning rate or in 32-true precision.",
                )
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(total)
        if config.optim.clip_grad_norm:
            fabric.clip_gradients(module, optimizer, max_norm=config.optim.clip_grad_norm)
        optimizer.step()
        values[f"total_{phase}"] = float(total.detach())
    return values


def _batches(fabric: Fabric, dataset: Dataset[Batch], config: Any, first: int) -> Iterator[Batch]:
    size = config.optim.batch_size
    loader = DataLoader(
        dataset,
        batch_size=size,
        sampler=range(first * size, config.optim.steps * size),
        num_workers=config.data.workers,
        worker_init_fn=_quiet_worker,
        persistent_workers=False,
        drop_last=True,
    )
    return iter(fabric.setup_dataloaders(loader, use_distributed_sampler=False))


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    torch.set_num_threads(1)


def _fixed_batch(dataset: Dataset[Batch], count: int) -> Batch:
    items = [dataset[i] for i in range(count)]
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


def _sample(fabric: Fabric, stage: Stage, model: nn.Module, batch: Batch, run: Run, step: int) -> None:
    model.eval()
    with torch.no_grad(), fabric.autocast():
        picture, numbers = stage.sample(model, batch)
    run.picture(step, picture)
    run.log({"step": step, "validation": numbers})


def _save(run: Run, stage: Any, average: AveragedModel, optimizer: Any, step: int, settings: RunConfig) -> None:
    state = {
        "step": step,
        "stage": stage.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    checkpoint.save(run.folder / "checkpoints", state, keep=settings.keep_checkpoints)
    stage.save(run.folder / "base.safetensors", average.module, step=step)


def _restore(state: dict[str, Any], stage: nn.Module, average: AveragedModel, optimizer: Any) -> int:
    try:
        stage.load_state_dict(state["stage"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise TrainingError(
            f"the checkpoint does not fit this configuration: {error}",
            fix="Resume with the config the run was started with.",
        ) from error
    return int(state["step"])


class _Meter:
    """Means of the losses since the last line, and the speed."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.sums: dict[str, list[float]] = {}
        self.began, self.count = time.monotonic(), 0

    def add(self, losses: dict[str, float]) -> None:
        self.count += 1
        for name, value in losses.items():
            self.sums.setdefault(name, []).append(value)

    def flush(self, step: int) -> dict[str, Any]:
        seconds = time.monotonic() - self.began
        entry: dict[str, Any] = {
            "step": step,
            "samples": step * self.config.optim.batch_size,
            "lr": learning_rate(self.config.optim, step - 1),
            "samples_per_second": round(self.count * self.config.optim.batch_size / max(seconds, 1e-9), 3),
            **{name: round(sum(v) / len(v), 6) for name, v in self.sums.items()},
        }
        self.sums, self.began, self.count = {}, time.monotonic(), 0
        line = "  ".join(f"{k} {v:.4g}" for k, v in entry.items() if isinstance(v, float | int))
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)
        return entry


@contextmanager
def _stop_on_signals() -> Iterator[Any]:
    """Ctrl-C and SIGTERM set a flag; the second one acts as usual."""
    flag: list[int] = []
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, _: Any) -> None:
        flag.append(number)
        for s, old in previous.items():
            signal.signal(s, old)

    for s in previous:
        signal.signal(s, handler)
    try:
        yield lambda: bool(flag)
    finally:
        for s, old in previous.items():
            signal.signal(s, old)
