"""Loading of training batches: which items a process reads for which step, and the loading processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from megaportraits.data.batches import collate
from megaportraits.data.dataset import B, SampleDataset
from megaportraits.data.stream import Layout
from megaportraits.errors import TrainingError
from megaportraits.training.stage import TrainingConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class StepSampler(Sampler[int]):
    """The items of one process from step `first` on: each step's `size` items are divided in order among processes."""

    def __init__(self, first: int, steps: int, size: int, rank: int, ranks: int) -> None:
        self.first, self.steps, self.size, self.share, self.rank = first, steps, size, size // ranks, rank

    def __len__(self) -> int:
        return (self.steps - self.first) * self.share

    def __iter__(self) -> Iterator[int]:
        for step in range(self.first, self.steps):
            start = step * self.size + self.rank * self.share
            yield from range(start, start + self.share)


def load_batches(fabric: Fabric, dataset: SampleDataset[B], config: TrainingConfig, first: int) -> Iterator[B]:
    """The process's micro-batches from step `first` on, on the run's device.

    Raises:
        TrainingError: the batch cannot be divided evenly among processes and accumulated parts.
    """
    optim = config.optim
    parts = fabric.world_size * optim.accumulate
    if optim.batch_size % parts:
        raise TrainingError(
            f"a batch of {optim.batch_size} cannot be shared out to {fabric.world_size} processes x "
            f"{optim.accumulate} parts",
            fix="Choose optim.batch_size as a multiple of their product.",
        )
    dataset.spread(Layout(optim.batch_size, fabric.world_size, optim.accumulate, max(config.data.workers, 1)))
    if config.data.workers:
        cv2.setNumThreads(1)  # before the fork: in a forked worker OpenCV would wait for threads that do not exist
    loader = DataLoader(
        dataset,
        batch_size=optim.batch_size // parts,
        sampler=StepSampler(first, optim.steps, optim.batch_size, fabric.global_rank, fabric.world_size),
        num_workers=config.data.workers,
        collate_fn=collate,
        worker_init_fn=quiet_worker,
        drop_last=True,
    )
    return iter(fabric.setup_dataloaders(loader, use_distributed_sampler=False))


def fixed_batch(dataset: SampleDataset[B], count: int) -> B:
    """The first `count` items of a data set, or all if there are fewer."""
    return collate([dataset[i] for i in range(min(count, len(dataset)))])


def quiet_worker(_: int) -> None:
    """Prepare a loading process: it ignores Ctrl-C and uses one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    torch.set_num_threads(1)
