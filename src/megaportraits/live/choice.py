"""Choose an engine: list the settings that can run the requested model, and take the fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from megaportraits.choices import LivePrecision, RuntimeChoice
from megaportraits.config.options import convert_options
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.matting import Matting
from megaportraits.live.engines import (
    EngineRuntime,
    GraphBase,
    GraphEncoder,
    GraphPortrait,
    GraphStudent,
    Setting,
    TorchBase,
    TorchStudent,
)
from megaportraits.live.tuning import Candidate, Trial, question, remember, remembered, thread_counts, tune
from megaportraits.models.storage import find_base, student_avatars
from megaportraits.ops.precision import fast_in_bfloat16
from megaportraits.pipeline import Avatar, Portrait
from megaportraits.pipeline.demo import demo_driver
from megaportraits.pipeline.devices import find_device
from megaportraits.pipeline.driver import FrameSource, HeadFollower
from megaportraits.pipeline.options import MotionOptions
from megaportraits.pipeline.portrait import PreparedSource
from megaportraits.pipeline.protocols import Encoder, Renderer
from megaportraits.reading import is_file
from megaportraits.runtimes import available_runtimes, read_info
from megaportraits.weights import cache_dir

Say = Callable[[str], None]


@dataclass(frozen=True)
class EngineRequest:
    """The user's requirements on the engine; "auto" and 0 leave the choice to measurement.

    Attributes:
        runtime: see `Setting`.
        precision: see `Setting`.
        threads: see `Setting`.
        retune: ignore earlier measurements and measure again.
        device: torch device; "auto" is CUDA where there is one. Exported graphs run on the CPU only.
        motion: motion options for the base model.
    """

    runtime: RuntimeChoice = "auto"
    precision: LivePrecision = "auto"
    threads: int = 0
    retune: bool = False
    device: str = "auto"
    motion: MotionOptions = field(default_factory=MotionOptions)

    def __post_init__(self) -> None:
        convert_options(self, keep=("motion",))

    def allows(self, setting: Setting) -> bool:
        """Whether a setting has the requested runtime and precision."""
        return self.runtime in ("auto", setting.runtime) and self.precision in ("auto", setting.precision)


@dataclass(frozen=True)
class EngineChoice:
    """An engine and the other objects that the live loop needs.

    Attributes:
        engine: renders the person.
        analyzer: face analyzer for tracking the camera's head.
        portrait: the encoded photograph; None for students.
        matting: matting network for the photograph's background.
        trials: the measurements, the chosen one first; empty when the choice came from the cache.
    """

    engine: Renderer
    analyzer: FaceAnalyzer
    portrait: Portrait | GraphPortrait | None
    matting: Matting
    trials: tuple[Trial, ...] = ()


def choose_engine(
    student: Path | None,
    avatar: str | None,
    source: Path | None,
    weights: str,
    request: EngineRequest,
    *,
    face: int | None = None,
    say: Say,
) -> EngineChoice:
    """The fastest engine for a student, or for a photograph with the base model.

    Args:
        student: .safetensors or .onnx file; None: the base model.
        avatar: name of the student's avatar; None: its first.
        source: the photograph for the base model.
        weights: weights of the base model: a name, a file, or the folder of an export.
        request: see `EngineRequest`.
        face: which face of the photograph, counted from 1 from left to right; None takes the largest.
        say: called with progress messages.

    Raises:
        ConfigError: not exactly one of `student` and `source` is given; no setting meets the request.
        WeightsError: the files are missing or of another kind.
        FaceError: the photograph shows no face, or fewer than `face`.
    """
    if (student is None) == (source is None):
        raise ConfigError(
            f"live: expected a student or a photograph, got {'neither' if student is None else 'both'}",
            fix="Give --student FILE, or --source PHOTO (and --weights).",
        )
    encoder: Encoder[PreparedSource] | None = None
    portrait: Portrait | GraphPortrait | None = None
    if source is None:
        assert student is not None
        files, candidates = _student_candidates(student, avatar, request)
    elif _is_export(weights):
        graph = _graph_encoder(Path(weights), request)
        by_graph = graph.encode(source, face=face)
        files, candidates = _graph_candidates(Path(weights), by_graph, request)
        encoder, portrait = graph, by_graph
    else:
        model = Avatar.from_pretrained(weights, device=request.device, precision="float32")
        by_torch = model.encode(source, face=face)
        files, candidates = [find_base(weights)], _torch(partial(_torch_base, model, by_torch, request.motion), request)
        encoder, portrait = model, by_torch
    analyzer = FaceAnalyzer() if encoder is None else encoder.analyzer
    best, trials = _best(files, candidates, analyzer, request, say)
    say(f"Running with {best.setting}.")
    return EngineChoice(best.build(), analyzer, portrait, Matting() if encoder is None else encoder.matting, trials)


def weights_files(weights: str) -> dict[str, Path]:
    """The files of a base model by their role, for content credentials.

    Raises:
        WeightsError: there are no such weights.
    """
    if _is_export(weights):
        return {name: Path(weights) / f"{name}.onnx" for name in ("encode", "drive")}
    return {"base": find_base(weights)}


def check_avatar(student: Path, avatar: str) -> None:
    """Check an avatar's name before a camera is opened.

    Raises:
        WeightsError: the student has no avatar of this name, or the file is not a readable student.
    """
    names = read_info(student).avatars if student.suffix == ".onnx" else student_avatars(student)
    if avatar not in names:
        raise WeightsError(f"{student} has no avatar {avatar!r}", fix="It has: " + ", ".join(names) + ".")


def _best(
    files: Sequence[Path], candidates: Sequence[Candidate], analyzer: FaceAnalyzer, request: EngineRequest, say: Say
) -> tuple[Candidate, tuple[Trial, ...]]:
    """The fastest candidate, from the cache or from new measurements."""
    if len(candidates) == 1:
        return candidates[0], ()
    key, notes = question(files, candidates), cache_dir().parent / "live.json"
    known = None if request.retune else remembered(notes, key, candidates)
    if known is not None:
        return known, ()
    say(f"Measuring {len(candidates)} ways to run this; the answer is remembered.")
    trials = _measured(candidates, analyzer)
    for trial in trials:
        say(f"  {trial.setting}: {trial.problem or f'{trial.milliseconds:.1f} ms'}")
    best = next(candidate for candidate in candidates if candidate.setting == trials[0].setting)
    remember(notes, key, best.setting)
    return best, tuple(trials)


def _measured(candidates: Sequence[Candidate], analyzer: FaceAnalyzer) -> list[Trial]:
    """Measure all candidates on a frame of the demo's driver, while face tracking runs in another thread as in use."""
    frame = next(FrameSource(demo_driver()).frames())
    size = candidates[0].build().size
    head = HeadFollower(analyzer, size).look(frame).head
    assert head is not None, "the demo's driver shows a face"
    follower = HeadFollower(analyzer, size)
    sample = (head.image, head.pose.to_crop_pose(head.crop), head.face.blendshapes)
    return tune(candidates, sample, beside=lambda: follower.look(frame))


def _student_candidates(path: Path, avatar: str | None, request: EngineRequest) -> tuple[list[Path], list[Candidate]]:
    """All candidates for a student's file."""
    if not is_file(path, WeightsError):
        raise WeightsError(f"the student {path} does not exist", fix="Make one with `megaportraits distill`.")
    if path.suffix == ".onnx":
        files = {read_info(p).precision: p for p in _with_variants(path)}
        return _graphs(files, lambda p, setting: GraphStudent(p, avatar, setting), request)
    return [path], _torch(lambda setting: TorchStudent(path, avatar, setting), request)


def _torch_base(avatar: Avatar, portrait: Portrait, motion: MotionOptions, setting: Setting) -> Renderer:
    return TorchBase(avatar, portrait, setting, motion)


def _graph_candidates(
    folder: Path, portrait: GraphPortrait, request: EngineRequest
) -> tuple[list[Path], list[Candidate]]:
    """All candidates for an exported base model and a photograph that its encode graph encoded."""
    files = {read_info(p).precision: p for p in _with_variants(folder / "drive.onnx")}
    return _graphs(files, lambda p, setting: GraphBase(p, portrait.tensors, portrait.fine, setting), request)


def _graph_encoder(weights: Path, request: EngineRequest) -> GraphEncoder:
    """The encoder of an export.

    Raises:
        ConfigError: motion options are requested, which exported graphs do not support.
    """
    if request.motion != MotionOptions():
        raise ConfigError(
            f"{weights}: exported graphs take the driver's motion as it is",
            fix="Leave --motion and --scale-from out, or give --weights by name or as a .safetensors file.",
        )
    return GraphEncoder(weights / "encode.onnx")


def _is_export(weights: str) -> bool:
    """Whether `weights` is the folder of an export. Another folder may have the name of shipped weights by chance."""
    return (Path(weights) / "encode.onnx").is_file() and (Path(weights) / "drive.onnx").is_file()


def _with_variants(path: Path) -> list[Path]:
    """A graph and, if it exists beside it, its int8 version. Float16 files run as float32, so they are not tried."""
    beside = path.with_name(f"{path.stem}-int8.onnx")
    return [path, beside] if beside.is_file() else [path]


def _graphs(
    files: dict[str, Path], build: Callable[[Path, Setting], Renderer], request: EngineRequest
) -> tuple[list[Path], list[Candidate]]:
    if request.device not in ("auto", "cpu"):
        raise ConfigError(
            f"device: exported graphs run on the CPU, got {request.device!r}",
            fix="Leave --device out, or give the .safetensors file.",
        )
    candidates: list[Candidate] = []
    full = next((file for precision, file in files.items() if precision != "int8"), None)
    for runtime in available_runtimes():
        for precision in ("float32", "bfloat16", "int8"):
            if precision == "bfloat16" and runtime != "openvino":
                continue
            file = files.get("int8") if precision == "int8" else full
            if file is not None:
                candidates += _settings(runtime, precision, partial(build, file), request)
    return list(files.values()), _checked(candidates, request)


def _torch(build: Callable[[Setting], Renderer], request: EngineRequest) -> list[Candidate]:
    device = find_device(request.device)
    worth = fast_in_bfloat16(device) or request.precision == "bfloat16"
    names = ["float32", *(["bfloat16"] if worth else [])]
    if device.type == "cpu":
        return _checked([c for name in names for c in _settings("torch", name, build, request)], request)
    settings = [Setting("torch", name, request.threads or thread_counts()[-1], str(device)) for name in names]
    return _checked([Candidate(s, partial(build, s)) for s in settings if request.allows(s)], request)


def _settings(
    runtime: EngineRuntime, precision: str, build: Callable[[Setting], Renderer], request: EngineRequest
) -> list[Candidate]:
    """One candidate for each number of threads that the request allows."""
    counts = [request.threads] if request.threads else thread_counts()
    settings = [Setting(runtime, precision, threads) for threads in counts]
    return [Candidate(setting, partial(build, setting)) for setting in settings if request.allows(setting)]


def _checked(candidates: list[Candidate], request: EngineRequest) -> list[Candidate]:
    if candidates:
        return candidates
    raise ConfigError(
        f"this file cannot be run as requested (runtime {request.runtime}, precision {request.precision})",
        fix="torch runs .safetensors; onnxruntime and OpenVINO run what `megaportraits export` wrote; "
        "int8 needs `--precision int8` there, bfloat16 needs torch or OpenVINO.",
    )
