"""Reads torch checkpoints of other projects without running code from them."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from megaportraits.errors import WeightsError

GET_AGAIN = "Get the file again from the address that `megaportraits weights list` shows."
"""What to do about a damaged file of weights that the program downloads."""
_PICKLE = b"\x80"
_FORBIDDEN = re.compile(r"GLOBAL (\S+)")


def read_checkpoint(path: Path, *, fix: str) -> Mapping[str, Any]:
    """The content of a checkpoint by name, on the CPU: tensors, numbers, strings, and collections of these.

    Args:
        path: a .pth, .pt or .tar file that `torch.save` wrote.
        fix: what the error tells the user to do if the file is not a checkpoint.

    Raises:
        WeightsError: the file does not exist, is not a checkpoint, contains objects whose loading would run code, or
            does not contain a mapping.
    """
    if not path.is_file():
        raise WeightsError(f"the checkpoint {path} does not exist", fix=fix)
    with path.open("rb") as stream:
        known = stream.read(1) == _PICKLE or zipfile.is_zipfile(path)
    if not known:
        raise WeightsError(f"{path} is not a checkpoint of torch", fix=fix)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about unusual pickles; the error below is clearer
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make torch's reader raise many kinds of exceptions
        forbidden = _FORBIDDEN.search(str(error))
        if forbidden is None:
            raise WeightsError(f"{path} is damaged, or not a checkpoint of torch", fix=fix) from error
        raise WeightsError(
            f"{path} holds objects of {forbidden[1]}, and loading them would run code from it: refused",
            fix="Only tensors are read. Where you trust the file, load it elsewhere and save its state dict alone.",
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: expected tensors by name, got {type(content).__name__}", fix=fix)
    return content


def load_published(network: nn.Module, path: Path, name: str, *, fix: str, prefix: str = "") -> None:
    """Load a network's layers from a published checkpoint; further layers of the file are ignored.

    Args:
        network: receives the layers.
        path: see `read_checkpoint`.
        name: what the file should contain, for the error.
        fix: see `read_checkpoint`.
        prefix: what stands before the network's names in the file.

    Raises:
        WeightsError: as for `read_checkpoint`, or a layer is missing in the file or has another shape.
    """
    state, found = read_checkpoint(path, fix=fix), {}
    for key, value in network.state_dict().items():
        given = state.get(prefix + key)
        if not isinstance(given, Tensor) or given.shape != value.shape:
            got = f"is {tuple(given.shape)}" if isinstance(given, Tensor) else "is missing"
            raise WeightsError(
                f"{path} does not hold {name}: {prefix}{key} {got}, expected {tuple(value.shape)}", fix=fix
            )
        found[key] = given
    network.load_state_dict(found)
