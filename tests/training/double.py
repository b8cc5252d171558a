"""Training in float64, for tests that compare runs which add the same numbers in different orders.

In float32 the rounding differences depend on the processor. Within a few steps they can move an activation across
zero, and then a gradient changes by percents. In float64 they stay near 1e-12.

`python -m tests.training.double ARGUMENTS` is the command line in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from megaportraits.config import TrainBaseConfig
from megaportraits.training.base import train_base


@contextmanager
def float64() -> Iterator[None]:
    """Code that asks for float32 gets float64: parameters, Fabric's inputs, results of autocast regions."""
    before = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def train_in_double(config: TrainBaseConfig, folder: Path, *, resume: bool = False) -> None:
    """`train_base` in float64."""
    with float64():
        train_base(config, folder, resume=resume)


if __name__ == "__main__":
    from megaportraits.cli import main

    with float64():
        main()
