"""Saves and loads every network of this room; `nn.weights_file` has the format."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from megaportraits.baselines.hifacegan import HiFaceGan
from megaportraits.config import (
    ComponentLandmarkConfig,
    EnhancerConfig,
    GazeConfig,
    HeadPoseConfig,
    HiFaceGanConfig,
    ModelConfig,
    StudentConfig,
)
from megaportraits.errors import WeightsError
from megaportraits.media.files import as_address
from megaportraits.models.base import BaseModel
from megaportraits.models.component_landmarks import ComponentLandmarkNet
from megaportraits.models.enhancer import Enhancer, PictureEnhancer
from megaportraits.models.gaze import GazeNet
from megaportraits.models.head_pose import HeadPoseNet
from megaportraits.models.motion import MotionEncoder
from megaportraits.models.student import Student
from megaportraits.nn.weights_file import open_weights, read_notes, save_network
from megaportraits.reading import access, is_file, parse_json, shown
from megaportraits.weights import assets

MOST_AVATARS = 10_000


def save_base(path: Path, model: BaseModel, *, notes: dict[str, str] | None = None, overwrite: bool = True) -> None:
    """Write a base model; parameters and errors as for `nn.weights_file.save_network`."""
    save_network(path, "base", model, model.config, notes=notes, overwrite=overwrite)


def save_enhancer(path: Path, model: PictureEnhancer, *, notes: dict[str, str] | None = None) -> None:
    """Write an enhancer, as `save_base` does."""
    save_network(path, "hifacegan" if isinstance(model, HiFaceGan) else "enhancer", model, model.config, notes=notes)


def save_gaze(path: Path, model: GazeNet, *, notes: dict[str, str] | None = None) -> None:
    """Write a gaze network, as `save_base` does."""
    save_network(path, "gaze", model, model.config, notes=notes)


def save_component_landmarks(path: Path, model: ComponentLandmarkNet, *, notes: dict[str, str] | None = None) -> None:
    """Write a network for landmarks of eyes and mouth, as `save_base` does."""
    save_network(path, "component-landmarks", model, model.config, notes=notes)


def save_head_pose(
    path: Path, model: HeadPoseNet, config: HeadPoseConfig, *, notes: dict[str, str] | None = None
) -> None:
    """Write a head-pose network, as `save_base` does."""
    save_network(path, "head-pose", model, config, notes=notes)


def save_motion(path: Path, model: MotionEncoder, config: ModelConfig, *, notes: dict[str, str] | None = None) -> None:
    """Write E_mtn of a base model with this config, as `save_base` does."""
    save_network(path, "motion", model, config, notes=notes)


def save_student(path: Path, model: Student, *, notes: dict[str, str] | None = None, overwrite: bool = True) -> None:
    """Write a student with all its avatars, as `save_base` does."""
    names = {"avatars": json.dumps(model.avatars, ensure_ascii=False)}
    save_network(path, "student", model, model.config, notes={**names, **(notes or {})}, overwrite=overwrite)


def find_base(name_or_path: str | Path) -> Path:
    """The file of a shipped base model ("nano"), or the given .safetensors file.

    Raises:
        WeightsError: the file does not exist.
    """
    return _find(name_or_path, "base")


def find_enhancer(name_or_path: str | Path) -> Path:
    """The file of the enhancer that ships with a base model ("nano"), or the given .safetensors file.

    Raises:
        WeightsError: the file does not exist.
    """
    return _find(name_or_path, "enhancer", otherwise=" with --enhancer")


def load_base(name_or_path: str | Path, device: torch.device | str = "cpu") -> BaseModel:
    """Load a base model from a file of `save_base`, in float32 and evaluation mode.

    Raises:
        WeightsError: the file does not exist, is not a safetensors file, has no base model, or has other tensors than
            its config needs.
    """
    file = open_weights(find_base(name_or_path), "base", ModelConfig)
    return file.load(BaseModel, device)


def read_base_config(name_or_path: str | Path) -> ModelConfig:
    """The config in a base model's file; raises as `load_base`."""
    return open_weights(find_base(name_or_path), "base", ModelConfig).config


def load_enhancer(name_or_path: str | Path, base: ModelConfig, device: torch.device | str = "cpu") -> PictureEnhancer:
    """Load an enhancer or a HiFaceGAN for a base model with this config, in float32 and evaluation mode.

    Raises:
        WeightsError: as `load_base`, or the enhancer does not fit the base model.
    """
    path = find_enhancer(name_or_path)
    if read_notes(path).get("kind") == "hifacegan":
        other = open_weights(path, "hifacegan", HiFaceGanConfig)
        _check_enhancer(path, other.config, base)
        return other.load(HiFaceGan, device)
    file = open_weights(path, "enhancer", EnhancerConfig)
    _check_enhancer(path, file.config, base)
    return file.load(Enhancer, device)


def _check_enhancer(path: Path, config: EnhancerConfig | HiFaceGanConfig, base: ModelConfig) -> None:
    problem = enhancer_problem(config, base)
    if problem:
        raise WeightsError(f"{path} does not fit the base model {base.name!r}: {problem}", fix="Train one for it.")


def enhancer_problem(config: EnhancerConfig | HiFaceGanConfig, base: ModelConfig) -> str:
    """Why an enhancer cannot take this base model's images; "" if it can."""
    if config.image_size != base.image_size:
        return f"it takes images of {config.image_size} px, the base makes {base.image_size} px"
    if config.matte != base.predict_matte:
        return "it needs alpha, the base makes none" if config.matte else "it knows no alpha, the base makes one"
    if config.source_skip and not base.source_skip:
        return "it needs the source's moved detail (model.source_skip), the base moves none"
    return ""


def load_gaze(name_or_path: str | Path, device: torch.device | str = "cpu") -> GazeNet:
    """Load a frozen gaze network in float32, shipped ("nano") or from a file of `save_gaze`; raises as `load_base`."""
    file = open_weights(_find(name_or_path, "gaze", otherwise=", or set loss.gaze=0"), "gaze", GazeConfig)
    return file.load(GazeNet, device)


def load_component_landmarks(name_or_path: str | Path, device: torch.device | str = "cpu") -> ComponentLandmarkNet:
    """Load a frozen landmark network in float32, shipped ("nano") or from a file; raises as `load_base`."""
    found = _find(name_or_path, "component_landmarks", otherwise=", or set loss.component_landmarks=0")
    file = open_weights(found, "component-landmarks", ComponentLandmarkConfig)
    return file.load(ComponentLandmarkNet, device)


def load_head_pose(name_or_path: str | Path, base: BaseModel) -> None:
    """Load a head-pose network, shipped ("nano") or from a file, into E_mtn of `base`; raises as `load_base`."""
    file = open_weights(_find(name_or_path, "head_pose"), "head-pose", HeadPoseConfig)
    wanted = HeadPoseConfig.of(base.config)
    if file.config != wanted:
        raise WeightsError(
            f"{file.path} holds a head-pose network of {file.config}, the base model {base.config.name!r} needs "
            f"{wanted}",
            fix="Train one with that model section.",
        )
    file.fill(base.motion.head_pose)


def load_motion(path: Path, base: BaseModel) -> None:
    """Load E_mtn from a file of `save_motion` into a base model; raises as `load_base`."""
    if not is_file(path, WeightsError):
        raise WeightsError(
            f"the motion encoder {path} does not exist", fix="Train one with `megaportraits train motion`."
        )
    open_weights(path, "motion", ModelConfig).fill(base.motion)


def find_student(name_or_path: str | Path) -> Path:
    """The file of a shipped student ("nano"), or the given path.

    Raises:
        WeightsError: no student of that name ships with the package.
    """
    path = Path(name_or_path)
    return _find(name_or_path, "student") if path.name == str(name_or_path) and not path.suffix else path


def load_student(path: Path, device: torch.device | str = "cpu") -> Student:
    """Load a student from a file of `save_student`, in float32 and evaluation mode; raises as `load_base`."""
    if not is_file(path, WeightsError):
        raise WeightsError(f"the student {path} does not exist", fix="Make one with `megaportraits distill`.")
    file = open_weights(path, "student", StudentConfig)
    return file.load(lambda config: Student(config, student_avatars(path)), device)


def student_avatars(path: Path) -> list[str]:
    """Names of a student's avatars, in the order of their indices; the weights are not read.

    Raises:
        WeightsError: the file is not a readable safetensors file, or has no valid list of avatars.
    """
    avatars = parse_json(
        read_notes(path).get("avatars", ""), f"{path}: the list of avatars", WeightsError, fix="Get the file again."
    )
    named = isinstance(avatars, list) and all(isinstance(name, str) and name for name in avatars)
    if not named or not 0 < len(set(avatars)) == len(avatars) <= MOST_AVATARS:
        raise WeightsError(
            f"{path}: expected the names of 1 to {MOST_AVATARS:,} avatars, no two alike, got {shown(avatars)}",
            fix="Get the file again.",
        )
    return list(avatars)


def _find(name_or_path: str | Path, kind: str, *, otherwise: str = "") -> Path:
    with access(name_or_path, WeightsError):
        return _found(name_or_path, kind, otherwise)


def _found(name_or_path: str | Path, kind: str, otherwise: str) -> Path:
    def shipped_as(name: str) -> Path:
        return assets() / name / f"{kind}.safetensors"

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
