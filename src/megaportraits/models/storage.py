"""Models as files: float16 safetensors with the model's config in the metadata, so that a file is all one needs."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from megaportraits.config import ModelConfig, parse_config
from megaportraits.errors import WeightsError
from megaportraits.models.base import BaseModel


def save_base(path: Path, model: BaseModel, *, notes: dict[str, str] | None = None) -> None:
    """Write a base model's weights in float16; an existing file is replaced at once or not at all.

    Args:
        path: ends in .safetensors.
        model: any device and precision.
        notes: further metadata, for example the steps it was trained for.
    """
    tensors = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in model.state_dict().items()}
    metadata = {"kind": "base", "config": model.config.model_dump_json(), **(notes or {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_file(tensors, partial, metadata=metadata)
    partial.replace(path)


def find_base(name_or_path: str | Path) -> Path:
    """The file of a shipped model ("nano") or the given .safetensors file itself.

    Raises:
        WeightsError: there is no such file.
    """
    path = Path(name_or_path)
    if path.suffix == ".safetensors":
        if path.is_file():
            return path
        raise WeightsError(
            f"weights file {path} does not exist", fix="Give a .safetensors file or a shipped name: nano."
        )
    shipped = Path(str(resources.files("megaportraits") / "assets" / str(name_or_path) / "base.safetensors"))
    if not shipped.is_file():
        raise WeightsError(
            f"no weights named {str(name_or_path)!r} come with this package",
            fix="Use nano, or train the model and pass the .safetensors file of its run folder.",
        )
    return shipped


def load_base(name_or_path: str | Path, device: torch.device | str = "cpu") -> BaseModel:
    """A base model in float32 and evaluation mode, from `save_base`'s file.

    Raises:
        WeightsError: no such file, not safetensors, not a base model, or other tensors than its config needs.
    """
    path = find_base(name_or_path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}", fix="Get the file again.") from error
    if metadata.get("kind") != "base" or "config" not in metadata:
        raise WeightsError(
            f"{path} holds {metadata.get('kind', 'no known kind of model')!r}, expected a base model",
            fix="Pass the base.safetensors that training wrote.",
        )
    config = parse_config(ModelConfig, json.loads(metadata["config"]), str(path))
    model = BaseModel(config)
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    got = {k: tuple(v.shape) for k, v in tensors.items()}
    if wanted != got:
        wrong = sorted(set(wanted.items()) ^ set(got.items()))[0][0]
        raise WeightsError(
            f"{path}: tensor {wrong} is {got.get(wrong, 'missing')}, expected {wanted.get(wrong, 'no such tensor')}",
            fix="The file belongs to another version of megaportraits.",
        )
    model.load_state_dict(tensors)
    return _inference(model, device)


def _inference(model: BaseModel, device: torch.device | str) -> BaseModel:
    nn.Module.requires_grad_(model, False)
    return model.to(device).eval()
