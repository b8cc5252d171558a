"""The format of weights files: float16 safetensors with the kind of model and its config in the metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from megaportraits.config import Config, parse_config
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.media.staging import staged_output
from megaportraits.nn.spectral import norms_standardized, plain_state_dict
from megaportraits.reading import parse_json, shown
from megaportraits.weights import check_shipped

C = TypeVar("C", bound=Config)
M = TypeVar("M", bound=nn.Module)

MOST_HEADER = 4 << 20
"""Largest header of a file (names and shapes of tensors, metadata), bytes. The paper's models have 0.1 MB."""
MOST_TENSORS = 10_000
"""Most tensors in a file. The paper's base model has 732."""
_AGAIN = "Get the file again."


def save_network(
    path: Path,
    kind: str,
    model: nn.Module,
    config: Config,
    *,
    notes: dict[str, str] | None = None,
    overwrite: bool = True,
) -> None:
    """Write a network's weights in float16. The file is written atomically.

    Spectral norms are folded into plain weights. If they follow weight standardisation, that is folded, too, and the
    config in the file has `weight_standardization: none`.

    Args:
        path: ends in .safetensors.
        kind: what the file holds, for example "base"; `open_weights` checks it.
        model: any device and precision.
        config: the model's config.
        notes: further metadata, for example the steps it was trained for.
        overwrite: whether an existing file may be replaced.

    Raises:
        MediaError: the file cannot be written.
        OutputTakenError: the file exists and may not be replaced; the weights were saved under another name.
        WeightsError: a weight is not finite.
    """
    folds = norms_standardized(model)
    if folds:  # standardising again at loading would undo the spectral norms
        config = config.model_copy(update={"weight_standardization": "none"})
    state = plain_state_dict(model, standardizes=not folds)
    tensors = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in state.items()}
    _check_finite(tensors, path, "Resume from an earlier checkpoint with a smaller learning rate.")
    metadata = {"kind": kind, "config": config.model_dump_json(), **(notes or {})}
    with staged_output(path, overwrite=overwrite, late=True) as part:
        part.write_bytes(save(tensors, metadata))  # `save_file` would replace the staged file by one of its own


def read_notes(path: Path) -> dict[str, str]:
    """All metadata of a weights file.

    Raises:
        WeightsError: the file is not a readable safetensors file.
    """
    return _header(path)[0]


@dataclass(frozen=True)
class WeightsFile(Generic[C]):
    """The header of a weights file: the model's config, all metadata, and the tensors' shapes by name."""

    path: Path
    config: C
    notes: dict[str, str]
    shapes: dict[str, tuple[int, ...]]

    def load(self, build: Callable[[C], M], device: torch.device | str = "cpu") -> M:
        """The frozen model in float32 and evaluation mode.

        It is built on the meta device, so that a config cannot allocate more memory than the file has weights.

        Args:
            build: makes the model from its config.
            device: of the model.

        Raises:
            WeightsError: as `fill`.
        """
        with torch.device("meta"):
            model = build(self.config)
        self.fill(model, assign=True)
        return model.requires_grad_(False).to(device).eval()

    def fill(self, model: nn.Module, *, assign: bool = False) -> None:
        """Load the weights into a model.

        Args:
            model: has the tensors of the file.
            assign: replace the model's tensors instead of copying into them; needed on the meta device.

        Raises:
            WeightsError: the model has other tensors; the file cannot be read; a weight is not finite.
        """
        path, got = self.path, self.shapes
        wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        if wanted != got:
            wrong = sorted(set(wanted.items()) ^ set(got.items()))[0][0]
            raise WeightsError(
                f"{path}: tensor {shown(wrong)} is {shown(got.get(wrong, 'missing'))}, expected "
                f"{wanted.get(wrong, 'no such tensor')}",
                fix="The file belongs to another configuration or version of megaportraits.",
            )
        try:
            with safe_open(path, framework="pt") as stream:
                tensors = {name: stream.get_tensor(name).float() for name in got}
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is not a readable safetensors file: {error}", fix=_AGAIN) from error
        _check_finite(tensors, path, "Get the file again, or train it again from an earlier checkpoint.")
        model.load_state_dict(tensors, assign=assign)


def _header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Metadata and shapes, checked before tensors are allocated. The hash of a shipped file is checked, too."""
    check_shipped(path)
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
        if length > MOST_HEADER:
            raise WeightsError(
                f"{path} is not a file of weights: expected a header of at most {MOST_HEADER:,} bytes, got {length:,}",
                fix="Give a .safetensors file that megaportraits wrote.",
            )
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) > MOST_TENSORS:
                raise WeightsError(f"{path}: expected at most {MOST_TENSORS:,} tensors, got {len(names):,}", fix=_AGAIN)
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            return dict(file.metadata() or {}), shapes
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}", fix=_AGAIN) from error


def open_weights(path: Path, kind: str, schema: type[C]) -> WeightsFile[C]:
    """Read and check the header of a file of `save_network`.

    Args:
        path: the file.
        kind: what it must hold.
        schema: the class of the model's config.

    Raises:
        WeightsError: the file is not a readable safetensors file, holds another kind of model or an invalid config, or
            is a shipped file with another hash.
    """
    notes, shapes = _header(path)
    if notes.get("kind") != kind or "config" not in notes:
        held = shown(notes.get("kind", "no known kind of model"))
        raise WeightsError(
            f"{path} holds {held}, expected {_article(kind)} {kind} model",
            fix=f"Pass the file that `megaportraits {'distill' if kind == 'student' else f'train {kind}'}` wrote.",
        )
    where = f"{path}: the model's config in the metadata"
    try:
        config = parse_config(schema, parse_json(notes["config"], where, WeightsError, fix=_AGAIN), where)
    except ConfigError as error:
        raise WeightsError(error.message, fix="Get the file again, or use the version that wrote it.") from error
    return WeightsFile(path, config, notes, shapes)


def _check_finite(tensors: dict[str, Tensor], path: Path, fix: str) -> None:
    """Reject weights that are NaN or infinite, which would give black images."""
    for name, tensor in tensors.items():
        if not (finite := tensor.isfinite()).all():
            raise WeightsError(
                f"{path}: {int((~finite).sum())} of {tensor.numel()} numbers of the tensor {name} are not finite",
                fix=fix,
            )


def _article(kind: str) -> str:
    return "an" if kind[0] in "aeiou" else "a"
