"""The training and validation pairs for a run of the base model, of its motion encoder, or of a baseline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from megaportraits.config import TrainBaseConfig, TrainBaselineConfig
from megaportraits.data.pairs import PairDataset


@contextmanager
def run_pairs(
    config: TrainBaseConfig | TrainBaselineConfig, validation_count: int
) -> Iterator[tuple[PairDataset, PairDataset | None]]:
    """Training pairs for all steps of a run, and `validation_count` validation pairs if the config names a folder.

    Shards that this process has downloaded for them are deleted at the end of the context.
    """
    training = _pairs(config, config.data.path, config.optim.steps * config.optim.batch_size, config.run.seed)
    folder, validation = config.data.validation, None
    try:
        validation = _pairs(config, folder, validation_count, 1) if folder else None
        yield training, validation
    finally:
        training.close()
        if validation is not None:
            validation.close()


def _pairs(config: TrainBaseConfig | TrainBaselineConfig, path: str, length: int, seed: int) -> PairDataset:
    return PairDataset(
        path,
        length=length,
        size=config.model.image_size,
        seed=seed,
        cross_identity=config.data.cross_identity,
        expressive=config.data.expressive,
        across_clips=config.data.across_clips,
        expression_names=None,
        stream_shards=config.data.stream_shards,
        stream_draws=config.data.stream_draws,
    )
