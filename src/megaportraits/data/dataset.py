"""Data sets of training samples, and what their items have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from megaportraits.data.batches import TrainingBatch
from megaportraits.data.stream import Layout
from megaportraits.errors import DataError
from megaportraits.ops.geometry import HeadPose

B = TypeVar("B", bound=TrainingBatch)
_DRAWS = 10


class SampleDataset(Dataset[B], ABC):
    """A data set whose item k depends on its seed and k alone, so that every training step can be reproduced exactly.

    Items are samples of the batch type `B`, without the batch dimension.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of items."""

    @abstractmethod
    def __getitem__(self, k: int) -> B:
        """Item k."""

    @abstractmethod
    def describe(self, batch: B) -> list[str]:
        """For messages: the clips or files that every sample of a batch comes from."""

    @property
    def unreadable(self) -> Sequence[str]:
        """Messages about shards that cannot be read and are left out."""
        return ()

    def spread(self, layout: Layout) -> None:
        """Set which process makes which item; only streamed data depend on it."""


def read_or_redraw(draw: Callable[[np.random.Generator], B], rng: np.random.Generator) -> B:
    """Draw an item, and draw again if a member is unreadable; `unreadable` of the item counts the failed draws.

    Raises:
        DataError: ten draws in a row failed, so that more than a single file is damaged.
    """
    for failed in range(_DRAWS):
        try:
            return replace(draw(rng), unreadable=torch.tensor(failed))
        except DataError as error:
            last = error
    raise last


def channels_first(image: npt.NDArray[np.uint8]) -> Tensor:
    """An image (H, W) or (H, W, C) as a tensor (C, H, W); C is 1 for (H, W)."""
    image = image[..., None] if image.ndim == 2 else image
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def pose_fields(pose: HeadPose) -> dict[str, Tensor]:
    """The fields `rotation`, `translation` and `scale` of `data.batches.PosedImage`."""
    return {
        "rotation": torch.from_numpy(pose.rotation.astype(np.float32)),
        "translation": torch.from_numpy(pose.translation.astype(np.float32)),
        "scale": torch.tensor(pose.scale, dtype=torch.float32),
    }
