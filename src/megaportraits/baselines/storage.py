"""The baselines by name: how they are made, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from megaportraits.baselines.base import Baseline
from megaportraits.baselines.face_vid2vid import FaceVid2Vid
from megaportraits.baselines.fomm import FirstOrderMotionModel
from megaportraits.config import BaselineModelConfig, FaceVid2VidConfig, FommConfig
from megaportraits.errors import WeightsError
from megaportraits.nn.weights_file import open_weights, save_network
from megaportraits.reading import is_file


@dataclass(frozen=True)
class _Kind:
    schema: type[BaselineModelConfig]
    build: Callable[[Any], Baseline[Any, Any]]


_KINDS = {"fomm": _Kind(FommConfig, FirstOrderMotionModel), "face-vid2vid": _Kind(FaceVid2VidConfig, FaceVid2Vid)}
BASELINES = tuple(_KINDS)
"""The kinds of baselines, as in `model.kind` and in the metadata of weights."""


def make_baseline(config: FommConfig | FaceVid2VidConfig) -> Baseline[Any, Any]:
    """The model of a config, with random weights."""
    return _KINDS[config.kind].build(config)


def save_baseline(
    path: Path, model: Baseline[Any, Any], config: FommConfig | FaceVid2VidConfig, *, notes: dict[str, str]
) -> None:
    """Write a baseline, as `nn.weights_file.save_network` does."""
    save_network(path, config.kind, model, config, notes=notes)


def load_baseline(path: Path, kind: str, device: torch.device | str = "cpu") -> Baseline[Any, Any]:
    """Load a baseline of a kind, in float32 and evaluation mode.

    Raises:
        WeightsError: the file does not exist, is not a safetensors file, or holds another kind of model.
    """
    if not is_file(path, WeightsError):
        raise WeightsError(f"the weights file {path} does not exist", fix="Check the path.")
    known = _KINDS[kind]
    return open_weights(path, kind, known.schema).load(known.build, device)
