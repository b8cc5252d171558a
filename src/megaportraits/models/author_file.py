"""Reads the first author's public checkpoint (EMOPortraits, Drobyshev et al., 2024); `models.author` imports it.

In the checkpoint only weight-standardised convolutions have biases. Spectral norms (`weight_orig`, `weight_u`,
`weight_v`) and weight standardisation (unit variance, unbiased) are folded into plain weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from megaportraits.errors import WeightsError
from megaportraits.nn.checkpoints import read_checkpoint
from megaportraits.reading import shown

AGAIN = "Get the file again."
STEM = re.compile(r"local_encoder_nw\.from_rgb_(\d+)px\.")
"""The first convolution of E_app; its name has the image size."""
_NESTS = ("model", "state_dict", "model_state_dict", "net", "generator")
"""Names under which a file may contain the networks."""


def read_author(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name. No code in the file is run.

    Raises:
        WeightsError: the file does not exist, contains objects other than tensors, or is not the author's checkpoint.
    """
    fix = "Give the checkpoint of the base model that EMOPortraits publishes, a .pth file."
    content = read_checkpoint(path, fix=fix)
    for name in _NESTS:
        if isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {str(name): value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    state = {name.removeprefix("module."): value for name, value in tensors.items()}
    if not any(STEM.match(name) for name in state):
        some = ", ".join(sorted(state)[:3]) or "no tensors"
        raise WeightsError(
            f"{path} is not the author's base model: no tensor local_encoder_nw.from_rgb_*px.*, but {shown(some)}",
            fix=fix,
        )
    return state


class AuthorFile:
    """The tensors of the file, with norms folded on access; `used` has the names of those that were read."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state
        self.used: set[str] = set()
        # Layers that are not standardised have spectral norms, so a plain weight after a GroupNorm is standardised.
        self.standardizes = any(name.endswith(".block_feats.2.bias") for name in state)

    def has(self, name: str) -> bool:
        """Whether the file has a layer of that name."""
        return f"{name}.weight" in self.state or f"{name}.weight_orig" in self.state

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a layer's weight; () if there is none."""
        for key in (f"{name}.weight_orig", f"{name}.weight"):
            if key in self.state:
                return tuple(self.state[key].shape)
        return ()

    def count(self, prefix: str, layer: str) -> int:
        """How many of `PREFIX.0.LAYER`, `PREFIX.1.LAYER`, ... the file has."""
        number = 0
        while self.has(f"{prefix}.{number}.{layer}"):
            number += 1
        return number

    def weight(self, name: str, *, standardized: bool = False) -> Tensor:
        """A layer's effective weight, with spectral norm and standardisation applied."""
        if f"{name}.weight_orig" in self.state:
            weight, u, v = (self._take(f"{name}.weight_{part}") for part in ("orig", "u", "v"))
            if (len(u), len(v)) != weight.flatten(1).shape:
                raise WeightsError(f"the checkpoint's {name}.weight_u and _v do not fit its weight_orig", fix=AGAIN)
            return weight / torch.dot(u, weight.flatten(1) @ v)
        weight = self._take(f"{name}.weight")
        if not standardized:
            return weight
        axes = tuple(range(1, weight.ndim))
        weight = weight - weight.mean(axes, keepdim=True)
        std = weight.flatten(1).std(1)
        return weight / (std + 1e-5).reshape(-1, *[1] * (weight.ndim - 1))

    def bias(self, name: str, like: Tensor) -> Tensor:
        """A layer's bias; zeros if it has none."""
        key = f"{name}.bias"
        return self._take(key) if key in self.state else like.new_zeros(len(like))

    def plain(self, name: str) -> Tensor:
        """A tensor without changes."""
        return self._take(name)

    def _take(self, name: str) -> Tensor:
        if name not in self.state:
            raise WeightsError(
                f"the checkpoint has no tensor {name}, although it has others of the same layer", fix=AGAIN
            )
        self.used.add(name)
        return self.state[name].float()
