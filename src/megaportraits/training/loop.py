"""The training loop: phases, precision, processes, checkpoints, exact resume, statistics, sample grids.

A step uses `batch_size` samples. Every process (rank) takes an equal share of them, in `accumulate` micro-batches.
Micro-batch m of a step has its own samples and its own random generator, in whichever process it runs. So two processes
give the same gradients as one process that accumulates two micro-batches.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from megaportraits.data.dataset import SampleDataset
from megaportraits.errors import TrainingError
from megaportraits.media.staging import full_disk_errors
from megaportraits.training import checkpoint
from megaportraits.training.loader import fixed_batch, load_batches
from megaportraits.training.run import Meter, TrainingRun, only_run, print_line
from megaportraits.training.schedule import learning_rate, warmed_ema
from megaportraits.training.signals import stop_on_signals
from megaportraits.training.stage import B, Losses, M, TrainingConfig, TrainingStage, V, freeze_others, phase_parameters
from megaportraits.training.strategy import (
    any_rank,
    compile_blocks,
    keep_inputs_exact,
    lay_channels_last,
    load_optimizer,
    make_fabric,
    mesh_of,
    shard,
    step_all,
    whole,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricModule, _FabricOptimizer


class ModelAverage(AveragedModel, Generic[M]):
    """The running average of a model of type `M`."""

    module: M


def fit(
    stage: TrainingStage[M, B, V],
    dataset: SampleDataset[B],
    validation: SampleDataset[V] | None,
    config: TrainingConfig,
    folder: Path,
    *,
    resume: bool = False,
) -> int:
    """Train a stage to `config.optim.steps`, or until a signal; returns the step reached.

    On Ctrl-C or SIGTERM the loop finishes the step, writes a checkpoint and returns. Item k of the data set depends on
    (seed, k) alone, and the randomness of a step on (seed, step) alone, so that a resumed run gives exactly the same
    weights as an uninterrupted one.

    Args:
        stage: see `TrainingStage`.
        dataset: the training samples of all steps, in order.
        validation: the samples for `TrainingStage.sample`, or None.
        config: config of the run.
        folder: the run folder.
        resume: continue the run in `folder`.

    Raises:
        TrainingError: the folder contains another run, or none to resume, or another process trains in it; the
            checkpoint or the batch size does not fit; a loss is not finite; the disk is full.
    """
    fabric = make_fabric(config.run)
    with only_run(fabric, folder, resume=resume), full_disk_errors(folder, TrainingError, fix=checkpoint.KEPT):
        return _fit(fabric, stage, dataset, validation, config, folder, resume=resume)


def _fit(
    fabric: Fabric,
    stage: TrainingStage[M, B, V],
    dataset: SampleDataset[B],
    validation: SampleDataset[V] | None,
    config: TrainingConfig,
    folder: Path,
    *,
    resume: bool,
) -> int:
    optim, settings = config.optim, config.run
    if optim.parts:
        freeze_others(stage.model, optim.parts)
    run = TrainingRun(folder, settings.tensorboard)
    job = TrainingJob.prepare(fabric, stage, config, checkpoint.to_resume(folder) if resume else None)
    batches = load_batches(fabric, dataset, config, job.step)
    fabric.barrier()  # every process must have read the folder before one changes it
    state = None if resume else job.state()
    if fabric.is_global_zero:
        if state is not None:  # the start of the run; written before config.yaml, which marks a run folder
            checkpoint.save(folder / "checkpoints", state, keep=settings.keep_checkpoints)
        run.start(config, job.step)
        _tell_unreadable(run, dataset.unreadable, job.step)
    del state
    fixed = None if validation is None else fixed_batch(validation, stage.validation_count).to(fabric.device)
    meter, last_save, weights = Meter(config), time.monotonic(), folder / stage.file_name
    if fabric.is_global_zero:
        of = f"step {job.step} to {optim.steps}, {optim.batch_size} samples a step"
        print_line(f"Training from {of}; weights: {weights}")
    with stop_on_signals() as signalled:
        while job.step < optim.steps:
            losses = job.advance(batches, dataset.describe)
            step, last, mine = job.step, job.step == optim.steps, fabric.is_global_zero
            late = mine and time.monotonic() - last_save > settings.checkpoint_minutes * 60
            stopped, due = any_rank(fabric, signalled(), late)
            saves = stopped or last or due
            samples = fixed is not None and (step % settings.sample_every == 0 or last)
            model = job.averaged() if saves or samples else None  # a collective call: all processes take part
            state = job.state() if saves else None
            if mine:
                meter.add(losses)
                if step % settings.log_every == 0 or last:
                    run.log(meter.flush(step))
                meter.report_progress(step)
                if samples and fixed is not None and model is not None:
                    _sample(fabric, stage, model, fixed, run, step)
                if (
                    state is not None and model is not None
                ):  # weights first: a run killed in between writes both again after resuming
                    stage.save(weights, model, step=step)
                    checkpoint.save(folder / "checkpoints", state, keep=settings.keep_checkpoints)
                    last_save = time.monotonic()
            del model, state
            if stopped:
                if mine:
                    print_line(f"Stopped at step {step}; continue with --resume.")
                break
    run.close()
    if fabric.is_global_zero and weights.is_file():
        print_line(f"Weights of step {job.step}: {weights}")
    fabric.barrier()  # a process that ends earlier would close connections that others still read
    return job.step


@dataclass
class TrainingJob(Generic[M, B, V]):
    """The state of a run.

    `prepare` makes it, from a checkpoint if there is one; `advance` makes a step; `state` gives the next checkpoint.
    """

    fabric: Fabric
    stage: TrainingStage[M, B, V]
    config: TrainingConfig
    module: _FabricModule
    own: dict[str, list[nn.Parameter]]
    optimizers: dict[str, _FabricOptimizer]
    average: ModelAverage[M]
    spare: M | None = None
    step: int = 0

    @staticmethod
    def prepare(
        fabric: Fabric, stage: TrainingStage[M, B, V], config: TrainingConfig, state: dict[str, Any] | None
    ) -> TrainingJob[M, B, V]:
        """Make the state of a run on the run's device.

        Args:
            fabric: see `training.strategy.make_fabric`.
            stage: the stage with its initial weights.
            config: config of the run.
            state: the checkpoint to resume from; None starts a run.

        Raises:
            TrainingError: the checkpoint does not fit.
        """
        optim = config.optim
        # Buffers (the vectors of spectral norms) are copied, not averaged.
        average = ModelAverage[M](stage.model, multi_avg_fn=warmed_ema(optim.ema_decay))
        with checkpoint.checkpoint_mismatch_errors():
            step = 0 if state is None else checkpoint.restore(state, stage, average)
        mesh = mesh_of(fabric)
        spare = None if mesh is None else copy.deepcopy(average.module)
        if config.run.channels_last:
            lay_channels_last(stage, fabric.device)
        if config.run.compile:
            compile_blocks(stage)
        keep_inputs_exact(fabric)
        module = fabric.setup_module(stage)
        average.to(fabric.device)
        if mesh is not None:
            shard(average.module, mesh)
        own = phase_parameters(stage)
        optimizers = {
            phase: torch.optim.AdamW(
                parameters,
                lr=optim.learning_rate,
                betas=optim.betas,
                eps=optim.eps,
                weight_decay=optim.weight_decay,
            )
            for phase, parameters in own.items()
        }
        if state is not None:
            with checkpoint.checkpoint_mismatch_errors():
                for phase, saved in checkpoint.optimizer_states(state, stage.phases[0]).items():
                    load_optimizer(optimizers[phase], saved)
                if scaler := state.get("precision"):  # of 16-mixed only
                    fabric.strategy.precision.load_state_dict(scaler)
        wrapped = {phase: fabric.setup_optimizers(optimizer) for phase, optimizer in optimizers.items()}
        return TrainingJob(fabric, stage, config, module, own, wrapped, average, spare, step)

    def advance(self, batches: Iterator[B], describe: Callable[[B], list[str]]) -> dict[str, float]:
        """Make one step; returns the losses, averaged over micro-batches and processes.

        Args:
            batches: the next micro-batches.
            describe: `SampleDataset.describe`, for the error of a loss that is not finite.
        """
        self.step += 1
        parts = self.config.optim.accumulate
        means: dict[str, Tensor] = {}
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.config.optim, self.step - 1)
        for part in range(parts):
            batch = next(batches)
            means["unreadable"] = means.get("unreadable", 0) + batch.unreadable.float().sum()
            for number, phase in enumerate(self.stage.phases):
                with self._only(phase), self._unsynchronized(part < parts - 1):
                    losses = self.module(phase, batch, self.step, self._generator(number, part))
                    self._check(losses, phase, batch, describe)
                    total = self._total(losses)
                    self.fabric.backward(total / parts)
                for name, loss in {**losses, f"total_{phase}": total}.items():
                    means[name] = means.get(name, 0) + loss.detach().float() / parts
        for optimizer in self.optimizers.values():
            if self.config.optim.clip_grad_norm:
                self.fabric.clip_gradients(self.module, optimizer, max_norm=self.config.optim.clip_grad_norm)
        step_all(self.fabric, self.optimizers.values())
        self.average.update_parameters(self.stage.model)
        values = torch.stack(list(means.values()))
        if self.fabric.world_size > 1:
            values = self.fabric.all_reduce(values, reduce_op="mean")
        return dict(zip(means, values.tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """The next checkpoint, unsharded. All processes must call this; process 0 gets the values."""
        pieces = {
            "step": self.step,
            "stage": dict(self.stage.state_dict()),
            "average": dict(self.average.state_dict()),
            "optimizers": {phase: optimizer.state_dict() for phase, optimizer in self.optimizers.items()},
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        return dict(whole(pieces, keep=self.fabric.is_global_zero))

    def averaged(self) -> M:
        """The averaged model, unsharded. All processes must call this; process 0 gets the values."""
        if self.spare is None:
            return self.average.module
        values = whole(dict(self.average.module.state_dict()), keep=self.fabric.is_global_zero)
        if self.fabric.is_global_zero:
            self.spare.load_state_dict(values)
        return self.spare.to(self.fabric.device)

    def _generator(self, phase: int, part: int) -> torch.Generator:
        micro_batch = self.fabric.global_rank * self.config.optim.accumulate + part
        seed = (self.config.run.seed * 1_000_003 + self.step) * 7 + phase
        return torch.Generator().manual_seed(seed + micro_batch * 1_000_000_007)

    def _total(self, losses: Losses) -> Tensor:
        weights = self.stage.weights()
        zero = torch.zeros((), device=self.fabric.device)
        return sum((weights[name] * loss for name, loss in losses.items()), zero)

    def _check(self, losses: Losses, phase: str, batch: B, describe: Callable[[B], list[str]]) -> None:
        for name, loss in losses.items():
            if not math.isfinite(value := float(loss.detach())):
                of = ", ".join(describe(batch))
                raise TrainingError(
                    f"loss {name!r} is {value} at step {self.step}, phase {phase!r}; the batch: {of}",
                    fix="Resume from the last checkpoint with a smaller learning rate or in 32-true precision.",
                )

    @contextmanager
    def _only(self, phase: str) -> Iterator[None]:
        """Freeze the other phases' parameters; gradients still flow through their networks."""
        others = [p for other, parameters in self.own.items() if other != phase for p in parameters]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    @contextmanager
    def _unsynchronized(self, waits: bool) -> Iterator[None]:
        """Reduce gradients over processes only once per step, with the last micro-batch."""
        if waits and self.fabric.world_size > 1:
            with self.fabric.no_backward_sync(self.module):
                yield
        else:
            yield


def _tell_unreadable(run: TrainingRun, shards: Sequence[str], step: int) -> None:
    """Log the number of skipped shards, and print the messages about them."""
    if shards:
        run.log({"step": step, "unreadable_shards": len(shards)})
        for message in shards:
            print_line(f"Left out: {message}")


def _sample(fabric: Fabric, stage: TrainingStage[M, B, V], model: M, batch: V, run: TrainingRun, step: int) -> None:
    model.eval()
    with torch.no_grad(), fabric.autocast():
        picture, numbers = stage.sample(model, batch)
    if picture is not None:
        run.picture(step, picture)
    run.log({"step": step, "validation": numbers})
