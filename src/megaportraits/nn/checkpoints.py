"""Checkpoints of torch that others made: their tensors, and nothing that would run."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from megaportraits.errors import WeightsError

_PICKLE = b"\x80"
_FORBIDDEN = re.compile(r"GLOBAL (\S+)")


def read_checkpoint(path: Path, *, fix: str) -> Mapping[str, Any]:
    """What a checkpoint holds by name, on the CPU: tensors, numbers, texts, and collections of these.

    Args:
        path: .pth, .pt or .tar, as `torch.save` writes them.
        fix: what to do about a file that is none.

    Raises:
        WeightsError: there is no such file; it is no checkpoint; it holds objects whose loading would run code, or no
            mapping.
    """
    if not path.is_file():
        raise WeightsError(f"the checkpoint {path} does not exist", fix=fix)
    with path.open("rb") as stream:
        known = stream.read(1) == _PICKLE or zipfile.is_zipfile(path)
    if not known:
        raise WeightsError(f"{path} is not a checkpoint of torch", fix=fix)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd pickles, which the error tells better
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever damaged bytes lead it to
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
