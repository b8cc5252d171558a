"""Models as files: float16 safetensors with the model's config in the metadata, so that a file is all one needs."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from megaportraits.config import (
    Config,
    EnhancerConfig,
    GazeConfig,
    HeadPoseConfig,
    ModelConfig,
    StudentConfig,
    parse_config,
)
from megaportraits.errors import WeightsError
from megaportraits.media.files import as_address, staged_output
from megaportraits.models.base import BaseModel
from megaportraits.models.enhancer import Enhancer
from megaportraits.models.gaze import GazeNet
from megaportraits.models.head_pose import HeadPoseNet
from megaportraits.models.motion import MotionEncoder
from megaportraits.models.student import Student
from megaportraits.nn.spectral import norms_standardized, plain_state_dict

C = TypeVar("C", bound=Config)
M = TypeVar("M", bound=nn.Module)


def save_base(path: Path, model: BaseModel, *, notes: dict[str, str] | None = None, overwrite: bool = True) -> None:
    """Write a base model's weights in float16; the file appears whole or not at all.

    Spectral norms are folded into plain weights; where they follow weight standardisations, those are folded, too, and
    the file's config says `weight_standardization: none`.

    Args:
        path: ends in .safetensors.
        model: any device and precision.
        notes: further metadata, for example the steps it was trained for.
        overwrite: whether an existing file may be replaced.

    Raises:
        MediaError: the file exists and may not be replaced, or it cannot be written.
    """
    _save(path, "base", model, model.config, notes, overwrite=overwrite)


def save_enhancer(path: Path, model: Enhancer, *, notes: dict[str, str] | None = None) -> None:
    """Write an enhancer, as `save_base` does."""
    _save(path, "enhancer", model, model.config, notes)


def save_gaze(path: Path, model: GazeNet, *, notes: dict[str, str] | None = None) -> None:
    """Write a gaze network, as `save_base` does."""
    _save(path, "gaze", model, model.config, notes)


def save_head_pose(
    path: Path, model: HeadPoseNet, config: HeadPoseConfig, *, notes: dict[str, str] | None = None
) -> None:
    """Write a head-pose network, as `save_base` does."""
    _save(path, "head-pose", model, config, notes)


def save_motion(path: Path, model: MotionEncoder, config: ModelConfig, *, notes: dict[str, str] | None = None) -> None:
    """Write E_mtn of a base model of this config, as `save_base` does."""
    _save(path, "motion", model, config, notes)


def save_student(path: Path, model: Student, *, notes: dict[str, str] | None = None, overwrite: bool = True) -> None:
    """Write a student with all its avatars, as `save_base` does."""
    names = {"avatars": json.dumps(model.avatars, ensure_ascii=False)}
    _save(path, "student", model, model.config, {**names, **(notes or {})}, overwrite=overwrite)


def find_base(name_or_path: str | Path) -> Path:
    """The file of a shipped model ("nano") or the given .safetensors file itself.

    Raises:
        WeightsError: there is no such file.
    """
    return _find(name_or_path, "base")


def find_enhancer(name_or_path: str | Path) -> Path:
    """The file of the enhancer shipped with a base model ("nano"), or the given .safetensors file itself.

    Raises:
        WeightsError: there is no such file.
    """
    return _find(name_or_path, "enhancer")


def load_base(name_or_path: str | Path, device: torch.device | str = "cpu") -> BaseModel:
    """A base model in float32 and evaluation mode, from `save_base`'s file.

    Raises:
        WeightsError: no such file, not safetensors, not a base model, or other tensors than its config needs.
    """
    path = find_base(name_or_path)
    config, tensors = _read(path, "base", ModelConfig)
    model = BaseModel(config)
    _fill(model, tensors, path)
    return _inference(model, device)


def load_enhancer(name_or_path: str | Path, base: ModelConfig, device: torch.device | str = "cpu") -> Enhancer:
    """An enhancer in float32 and evaluation mode, from `save_enhancer`'s file, for a base model of this config.

    Raises:
        WeightsError: as `load_base`, or it was made for another kind of base model.
    """
    path = find_enhancer(name_or_path)
    config, tensors = _read(path, "enhancer", EnhancerConfig)
    problem = enhancer_problem(config, base)
    if problem:
        raise WeightsError(f"{path} does not fit the base model {base.name!r}: {problem}", fix="Train one for it.")
    model = Enhancer(config)
    _fill(model, tensors, path)
    return _inference(model, device)


def enhancer_problem(config: EnhancerConfig, base: ModelConfig) -> str:
    """Why an enhancer cannot take this base model's images; "" if it can."""
    if config.image_size != base.image_size:
        return f"it takes images of {config.image_size} px, the base makes {base.image_size} px"
    if config.matte != base.predict_matte:
        return "it needs alpha, the base makes none" if config.matte else "it knows no alpha, the base makes one"
    if config.source_skip and not base.source_skip:
        return "it needs the source's moved detail (model.source_skip), the base moves none"
    return ""


def load_gaze(name_or_path: str | Path, device: torch.device | str = "cpu") -> GazeNet:
    """A frozen gaze network in float32, shipped ("nano") or from `save_gaze`'s file; raises as `load_base`."""
    path = _find(name_or_path, "gaze", otherwise=", or set loss.gaze=0")
    config, tensors = _read(path, "gaze", GazeConfig)
    model = GazeNet(config)
    _fill(model, tensors, path)
    return _inference(model, device)


def load_head_pose(name_or_path: str | Path, base: BaseModel) -> None:
    """Put a head-pose network, shipped ("nano") or from `save_head_pose`'s file, into E_mtn; raises as `load_base`."""
    path = _find(name_or_path, "head_pose")
    config, tensors = _read(path, "head-pose", HeadPoseConfig)
    wanted = HeadPoseConfig.of(base.config)
    if config != wanted:
        raise WeightsError(
            f"{path} holds a head-pose network of {config}, the base model {base.config.name!r} needs {wanted}",
            fix="Train one with that model section.",
        )
    _fill(base.motion.head_pose, tensors, path)


def load_motion(path: Path, base: BaseModel) -> None:
    """Put E_mtn from `save_motion`'s file into a base model; raises as `load_base`."""
    if not path.is_file():
        raise WeightsError(
            f"the motion encoder {path} does not exist", fix="Train one with `megaportraits train motion`."
        )
    _, tensors = _read(path, "motion", ModelConfig)
    _fill(base.motion, tensors, path)


def find_student(name_or_path: str | Path) -> Path:
    """The file of a student: the shipped one by its name ("nano"), else the path as it is.

    Raises:
        WeightsError: no student of that name ships.
    """
    path = Path(name_or_path)
    return _find(name_or_path, "student") if path.name == str(name_or_path) and not path.suffix else path


def load_student(path: Path, device: torch.device | str = "cpu") -> Student:
    """A student in float32 and evaluation mode, from `save_student`'s file; raises as `load_base`."""
    if not path.is_file():
        raise WeightsError(f"the student {path} does not exist", fix="Make one with `megaportraits distill`.")
    config, tensors = _read(path, "student", StudentConfig)
    try:
        avatars = json.loads(read_notes(path)["avatars"])
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path} does not name its avatars: {error}", fix="Get the file again.") from error
    model = Student(config, avatars)
    _fill(model, tensors, path)
    return _inference(model, device)


def read_notes(path: Path) -> dict[str, str]:
    """All metadata of a file of weights; it must be a readable one."""
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _find(name_or_path: str | Path, kind: str, *, otherwise: str = "") -> Path:
    def shipped_as(name: str) -> Path:
        return Path(str(resources.files("megaportraits") / "assets" / name / f"{kind}.safetensors"))

    path = Path(name_or_path)
    if path.suffix == ".safetensors" and path.is_file():
        return path
    shipped = shipped_as(str(name_or_path))
    if path.suffix != ".safetensors" and shipped.is_file():
        return shipped
    made_by = "distill" if kind == "student" else f"train {kind.replace('_', '-')}"
    how = f"Train one with `megaportraits {made_by}` and pass its .safetensors file"
    how += f"{', or use nano' if shipped_as('nano').is_file() else ''}{otherwise}."
    if (address := as_address(path)) is not None:
        raise WeightsError(f"{address}: addresses are not read", fix="Download the file, and name it.")
    if path.is_dir():
        inside = path / f"{kind}.safetensors"
        fix = f"Pass {inside}." if inside.is_file() else how
        raise WeightsError(f"{path}: expected a .safetensors file, got a folder", fix=fix)
    if path.exists():
        raise WeightsError(f"{path}: expected a .safetensors file, got {_other_file(path)}", fix=how)
    if path.suffix or path.name != str(name_or_path):
        raise WeightsError(f"weights file {path} does not exist", fix=how)
    what = "weights" if kind == "base" else kind
    raise WeightsError(
        f"no {what} named {str(name_or_path)!r} come{'' if kind == 'base' else 's'} with this package", fix=how
    )


def _other_file(path: Path) -> str:
    return f"a {path.suffix} file" if path.suffix else "a file without that ending"


def _save(
    path: Path,
    kind: str,
    model: nn.Module,
    config: Config,
    notes: dict[str, str] | None,
    *,
    overwrite: bool = True,
) -> None:
    folds = norms_standardized(model)
    if folds:  # standardised again when read they would lose their norms
        config = config.model_copy(update={"weight_standardization": "none"})
    state = plain_state_dict(model, standardizes=not folds)
    tensors = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in state.items()}
    metadata = {"kind": kind, "config": config.model_dump_json(), **(notes or {})}
    with staged_output(path, overwrite=overwrite) as part:
        part.write_bytes(save(tensors, metadata))  # `save_file` would replace the temporary file by its own


def _read(path: Path, kind: str, schema: type[C]) -> tuple[C, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}", fix="Get the file again.") from error
    if metadata.get("kind") != kind or "config" not in metadata:
        raise WeightsError(
            f"{path} holds {metadata.get('kind', 'no known kind of model')!r}, expected {_article(kind)} {kind} model",
            fix=f"Pass the file that `megaportraits {'distill' if kind == 'student' else f'train {kind}'}` wrote.",
        )
    return parse_config(schema, json.loads(metadata["config"]), str(path)), tensors


def _fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    got = {k: tuple(v.shape) for k, v in tensors.items()}
    if wanted != got:
        wrong = sorted(set(wanted.items()) ^ set(got.items()))[0][0]
        raise WeightsError(
            f"{path}: tensor {wrong} is {got.get(wrong, 'missing')}, expected {wanted.get(wrong, 'no such tensor')}",
            fix="The file belongs to another configuration or version of megaportraits.",
        )
    model.load_state_dict(tensors)


def _inference(model: M, device: torch.device | str) -> M:
    return model.requires_grad_(False).to(device).eval()


def _article(kind: str) -> str:
    return "an" if kind[0] in "aeiou" else "a"
