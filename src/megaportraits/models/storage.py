"""Saves and loads models: float16 safetensors files with the model's config in the metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from megaportraits.baselines.hifacegan import HiFaceGan
from megaportraits.config import (
    ComponentLandmarkConfig,
    Config,
    EnhancerConfig,
    GazeConfig,
    HeadPoseConfig,
    HiFaceGanConfig,
    ModelConfig,
    StudentConfig,
    parse_config,
)
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.media.files import as_address
from megaportraits.media.staging import staged_output
from megaportraits.models.base import BaseModel
from megaportraits.models.component_landmarks import ComponentLandmarkNet
from megaportraits.models.enhancer import Enhancer, PictureEnhancer
from megaportraits.models.gaze import GazeNet
from megaportraits.models.head_pose import HeadPoseNet
from megaportraits.models.motion import MotionEncoder
from megaportraits.models.student import Student
from megaportraits.nn.spectral import norms_standardized, plain_state_dict
from megaportraits.reading import access, is_file, parse_json, shown
from megaportraits.weights import assets, check_shipped

C = TypeVar("C", bound=Config)
M = TypeVar("M", bound=nn.Module)

MOST_HEADER = 4 << 20
"""Largest header of a file (names and shapes of tensors, metadata), bytes. The paper's models have 0.1 MB."""
MOST_TENSORS = 10_000
"""Most tensors in a file. The paper's base model has 732."""
MOST_AVATARS = 10_000
_AGAIN = "Get the file again."


def save_base(path: Path, model: BaseModel, *, notes: dict[str, str] | None = None, overwrite: bool = True) -> None:
    """Write a base model's weights in float16. The file is written atomically.

    Spectral norms are folded into plain weights. If they follow weight standardisation, that is folded, too, and the
    config in the file has `weight_standardization: none`.

    Args:
        path: ends in .safetensors.
        model: any device and precision.
        notes: further metadata, for example the steps it was trained for.
        overwrite: whether an existing file may be replaced.

    Raises:
        MediaError: the file cannot be written.
        OutputTakenError: the file exists and may not be replaced; the weights were saved under another name.
    """
    _save(path, "base", model, model.config, notes, overwrite=overwrite)


def save_enhancer(path: Path, model: PictureEnhancer, *, notes: dict[str, str] | None = None) -> None:
    """Write an enhancer, as `save_base` does."""
    _save(path, "hifacegan" if isinstance(model, HiFaceGan) else "enhancer", model, model.config, notes)


def save_gaze(path: Path, model: GazeNet, *, notes: dict[str, str] | None = None) -> None:
    """Write a gaze network, as `save_base` does."""
    _save(path, "gaze", model, model.config, notes)


def save_component_landmarks(path: Path, model: ComponentLandmarkNet, *, notes: dict[str, str] | None = None) -> None:
    """Write a network for landmarks of eyes and mouth, as `save_base` does."""
    _save(path, "component-landmarks", model, model.config, notes)


def save_head_pose(
    path: Path, model: HeadPoseNet, config: HeadPoseConfig, *, notes: dict[str, str] | None = None
) -> None:
    """Write a head-pose network, as `save_base` does."""
    _save(path, "head-pose", model, config, notes)


def save_motion(path: Path, model: MotionEncoder, config: ModelConfig, *, notes: dict[str, str] | None = None) -> None:
    """Write E_mtn of a base model with this config, as `save_base` does."""
    _save(path, "motion", model, config, notes)


def save_student(path: Path, model: Student, *, notes: dict[str, str] | None = None, overwrite: bool = True) -> None:
    """Write a student with all its avatars, as `save_base` does."""
    names = {"avatars": json.dumps(model.avatars, ensure_ascii=False)}
    _save(path, "student", model, model.config, {**names, **(notes or {})}, overwrite=overwrite)


def save_network(path: Path, kind: str, model: nn.Module, config: Config, *, notes: dict[str, str]) -> None:
    """Write a network of another room under a kind of its own, as `save_base` does."""
    _save(path, kind, model, config, notes)


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
    file = _open(find_base(name_or_path), "base", ModelConfig)
    return _inference(_built(file, lambda: BaseModel(file.config)), device)


def read_base_config(name_or_path: str | Path) -> ModelConfig:
    """The config in a base model's file; raises as `load_base`."""
    return _open(find_base(name_or_path), "base", ModelConfig).config


def load_enhancer(name_or_path: str | Path, base: ModelConfig, device: torch.device | str = "cpu") -> PictureEnhancer:
    """Load an enhancer or a HiFaceGAN for a base model with this config, in float32 and evaluation mode.

    Raises:
        WeightsError: as `load_base`, or the enhancer does not fit the base model.
    """
    path = find_enhancer(name_or_path)
    if read_notes(path).get("kind") == "hifacegan":
        other = _open(path, "hifacegan", HiFaceGanConfig)
        _check_enhancer(path, other.config, base)
        return _inference(_built(other, lambda: HiFaceGan(other.config)), device)
    file = _open(path, "enhancer", EnhancerConfig)
    _check_enhancer(path, file.config, base)
    return _inference(_built(file, lambda: Enhancer(file.config)), device)


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
    file = _open(_find(name_or_path, "gaze", otherwise=", or set loss.gaze=0"), "gaze", GazeConfig)
    return _inference(_built(file, lambda: GazeNet(file.config)), device)


def load_component_landmarks(name_or_path: str | Path, device: torch.device | str = "cpu") -> ComponentLandmarkNet:
    """Load a frozen landmark network in float32, shipped ("nano") or from a file; raises as `load_base`."""
    found = _find(name_or_path, "component_landmarks", otherwise=", or set loss.component_landmarks=0")
    file = _open(found, "component-landmarks", ComponentLandmarkConfig)
    return _inference(_built(file, lambda: ComponentLandmarkNet(file.config)), device)


def load_head_pose(name_or_path: str | Path, base: BaseModel) -> None:
    """Load a head-pose network, shipped ("nano") or from a file, into E_mtn of `base`; raises as `load_base`."""
    file = _open(_find(name_or_path, "head_pose"), "head-pose", HeadPoseConfig)
    wanted = HeadPoseConfig.of(base.config)
    if file.config != wanted:
        raise WeightsError(
            f"{file.path} holds a head-pose network of {file.config}, the base model {base.config.name!r} needs "
            f"{wanted}",
            fix="Train one with that model section.",
        )
    _fill(base.motion.head_pose, file)


def load_motion(path: Path, base: BaseModel) -> None:
    """Load E_mtn from a file of `save_motion` into a base model; raises as `load_base`."""
    if not is_file(path, WeightsError):
        raise WeightsError(
            f"the motion encoder {path} does not exist", fix="Train one with `megaportraits train motion`."
        )
    _fill(base.motion, _open(path, "motion", ModelConfig))


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
    file = _open(path, "student", StudentConfig)
    return _inference(_built(file, lambda: Student(file.config, student_avatars(path))), device)


def load_network(
    path: Path, kind: str, schema: type[C], build: Callable[[C], M], device: torch.device | str = "cpu"
) -> M:
    """Load a network from a file of `save_network`, in float32 and evaluation mode; raises as `load_base`."""
    if not is_file(path, WeightsError):
        raise WeightsError(f"the weights file {path} does not exist", fix="Check the path.")
    file = _open(path, kind, schema)
    return _inference(_built(file, lambda: build(file.config)), device)


def student_avatars(path: Path) -> list[str]:
    """Names of a student's avatars, in the order of their indices; the weights are not read.

    Raises:
        WeightsError: the file is not a readable safetensors file, or has no valid list of avatars.
    """
    avatars = parse_json(read_notes(path).get("avatars", ""), f"{path}: the list of avatars", WeightsError, fix=_AGAIN)
    named = isinstance(avatars, list) and all(isinstance(name, str) and name for name in avatars)
    if not named or not 0 < len(set(avatars)) == len(avatars) <= MOST_AVATARS:
        raise WeightsError(
            f"{path}: expected the names of 1 to {MOST_AVATARS:,} avatars, no two alike, got {shown(avatars)}",
            fix=_AGAIN,
        )
    return list(avatars)


def read_notes(path: Path) -> dict[str, str]:
    """All metadata of a weights file.

    Raises:
        WeightsError: the file is not a readable safetensors file.
    """
    return _header(path)[0]


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
    if folds:  # standardising again at loading would undo the spectral norms
        config = config.model_copy(update={"weight_standardization": "none"})
    state = plain_state_dict(model, standardizes=not folds)
    tensors = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in state.items()}
    _check_finite(tensors, path, "Resume from an earlier checkpoint with a smaller learning rate.")
    metadata = {"kind": kind, "config": config.model_dump_json(), **(notes or {})}
    with staged_output(path, overwrite=overwrite, late=True) as part:
        part.write_bytes(save(tensors, metadata))  # `save_file` would replace the staged file by one of its own


@dataclass(frozen=True)
class _WeightsFile(Generic[C]):
    """The header of a weights file: the model's config, all metadata, and the tensors' shapes by name."""

    path: Path
    config: C
    notes: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


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


def _open(path: Path, kind: str, schema: type[C]) -> _WeightsFile[C]:
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
    return _WeightsFile(path, config, notes, shapes)


def _built(file: _WeightsFile[C], build: Callable[[], M]) -> M:
    """The model of a file, built on the meta device so that a config cannot allocate more than the file has."""
    with torch.device("meta"):
        model = build()
    _fill(model, file, assign=True)
    return model


def _fill(model: nn.Module, file: _WeightsFile[C], *, assign: bool = False) -> None:
    path, got = file.path, file.shapes
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


def _check_finite(tensors: dict[str, Tensor], path: Path, fix: str) -> None:
    """Reject weights that are NaN or infinite, which would give black images."""
    for name, tensor in tensors.items():
        if not (finite := tensor.isfinite()).all():
            raise WeightsError(
                f"{path}: {int((~finite).sum())} of {tensor.numel()} numbers of the tensor {name} are not finite",
                fix=fix,
            )


def _inference(model: M, device: torch.device | str) -> M:
    return model.requires_grad_(False).to(device).eval()


def _article(kind: str) -> str:
    return "an" if kind[0] in "aeiou" else "a"
