"""Encoders of photographs and renderers of frames: the base model or a student, in torch or as exported graphs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from megaportraits.choices import Precision, RuntimeName
from megaportraits.config import ModelConfig, parse_config
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.export.graphs import BLENDSHAPES_INPUT, POSE_INPUTS
from megaportraits.faces.detector import Blendshapes, FaceAnalyzer
from megaportraits.faces.landmarks import select_blendshapes
from megaportraits.faces.matting import Matting
from megaportraits.media.images import UInt8
from megaportraits.models.motion import Motion
from megaportraits.models.storage import load_student
from megaportraits.nn.inference import prepare_for_inference, running
from megaportraits.ops.geometry import HeadPose
from megaportraits.ops.pictures import resize_planes
from megaportraits.pipeline import Avatar, Portrait, Rendering
from megaportraits.pipeline.motion import edit_motion
from megaportraits.pipeline.options import MotionOptions
from megaportraits.pipeline.portrait import PreparedSource, Source, find_source_head, prepare_source
from megaportraits.pipeline.tensors import head_crop_tensor
from megaportraits.reading import parse_json
from megaportraits.runtimes import Graph, open_graph
from megaportraits.runtimes.arrays import image_array, pose_arrays
from megaportraits.runtimes.graph import Arrays, GraphInfo

Sample = tuple[UInt8, HeadPose, Blendshapes]
"""The arguments of `pipeline.protocols.Renderer.draw`."""
EngineRuntime = RuntimeName | Literal["torch"]


@dataclass(frozen=True)
class Setting:
    """How networks are run.

    Attributes:
        runtime: what runs the network.
        precision: "float32", "bfloat16", or "int8" (an exported int8 file).
        threads: number of threads that the network may use.
        device: torch device, "cpu" or "cuda"; exported graphs run on the CPU.
    """

    runtime: EngineRuntime
    precision: str
    threads: int
    device: str = "cpu"

    def __str__(self) -> str:
        if self.device != "cpu":
            return f"{self.runtime} {self.precision} on {self.device}"
        return f"{self.runtime} {self.precision}, {self.threads} thread{'s' * (self.threads != 1)}"


class TorchBase:
    """The base model in torch, on its avatar's device.

    Args:
        avatar: the model.
        portrait: the person.
        setting: how the model is run.
        options: motion options; None: the driver's own motion.

    Attributes:
        relative: whether the options need a neutral frame; set it with `rest`.
    """

    def __init__(
        self, avatar: Avatar, portrait: Portrait, setting: Setting, options: MotionOptions | None = None
    ) -> None:
        self.size, self._portrait, self._options = avatar.size, portrait, options or MotionOptions()
        self._avatar = avatar.in_precision(_torch_precision(setting))
        self.relative = self._options.needs_neutral
        self._neutral: Motion | None = None
        torch.set_num_threads(setting.threads)

    def rest(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> None:
        """Set the driver's neutral frame, from which relative motion is measured; arguments as for `draw`."""
        self._neutral = self._motion(head, pose, blendshapes)

    def draw(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Rendering:
        # Motion is absolute until a neutral frame is set, for example while candidates are measured.
        options = MotionOptions() if self.relative and self._neutral is None else self._options
        driven = self._motion(head, pose, blendshapes)
        return self._avatar.render(
            self._portrait, edit_motion(self._portrait.motion, driven, options, neutral=self._neutral)
        )

    def _motion(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Motion:
        return self._avatar.motions([head], [pose], [blendshapes])[0]


class TorchStudent:
    """A student in torch. The parts that depend only on the avatar are computed once."""

    def __init__(self, weights: Path, avatar: str | None, setting: Setting) -> None:
        student = load_student(weights)
        index = student.find(avatar) if avatar is not None else 0
        self._device, self._precision = torch.device(setting.device), _torch_precision(setting)
        prepare_for_inference(student, self._precision)
        torch.set_num_threads(setting.threads)
        self.size, self.student = student.config.input_size, student.to(self._device)
        with running(self._device, self._precision):
            self._identity = student.identity(torch.tensor([index], device=setting.device))

    def draw(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Rendering:
        with running(self._device, self._precision):
            image = torch.from_numpy(image_array(head)).to(self._device)
            output = self.student.render(image, self._identity)
        alpha = None if output.alpha is None else output.alpha.float().cpu().numpy()
        return _rendering(output.image.float().cpu().numpy(), alpha, pose)


class GraphBase:
    """The exported per-frame graph of the base model.

    Args:
        path: path of `drive.onnx`.
        tensors: the encoded person's tensors by name: `GraphPortrait.tensors`. Tensors that the graph does not take are
            ignored.
        fine: `PreparedSource.fine`.
        setting: how the graph is run.
    """

    def __init__(self, path: Path, tensors: Arrays, fine: Tensor, setting: Setting) -> None:
        self._graph = open_as(path, setting)
        self.size = self._graph.inputs["driver"][-1]
        self._inputs = dict(tensors)
        self._blendshape_names = _config(self._graph.info, path).motion.blendshapes
        if "fine" in self._graph.inputs:
            self._inputs["fine"] = resize_planes(fine.numpy(), self._graph.inputs["fine"][-1])

    def draw(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Rendering:
        measured = pose_arrays(pose) | {
            BLENDSHAPES_INPUT: select_blendshapes(blendshapes, self._blendshape_names)[None]
        }
        got = self._graph({"driver": image_array(head), **self._inputs, **measured})
        return _rendering(got["image"], got.get("alpha"), _pose_of(got, "rendered_"))


class GraphStudent:
    """An exported student."""

    def __init__(self, path: Path, avatar: str | None, setting: Setting) -> None:
        self._graph = open_as(path, setting)
        info = self._graph.info
        if info.kind != "student":
            raise WeightsError(f"{path}: expected a student, got {info.kind}", fix="Use --source and --weights FOLDER.")
        names = info.avatars
        if avatar is not None and avatar not in names:
            raise WeightsError(f"{path} has no avatar {avatar!r}", fix="It has: " + ", ".join(names) + ".")
        self._avatar = np.array([names.index(avatar) if avatar is not None else 0], np.int64)
        self.size = self._graph.inputs["driver"][-1]

    def draw(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Rendering:
        got = self._graph({"driver": image_array(head), "avatar": self._avatar})
        return _rendering(got["image"], got.get("alpha"), pose)


@dataclass(frozen=True, kw_only=True)
class GraphPortrait(PreparedSource):
    """A source encoded by an exported graph; see `GraphEncoder.encode`.

    Attributes:
        tensors: the encode graph's outputs by name; the frame graph takes them as inputs.
    """

    tensors: Arrays

    @property
    def rest(self) -> HeadPose:
        """The head pose of the source's own motion."""
        return _pose_of(self.tensors, "motion.pose.")


class GraphEncoder:
    """`encode.onnx` of an export: a `pipeline.protocols.Encoder` without torch weights.

    Raises:
        WeightsError: the file does not exist, or it is a graph of another kind.
    """

    def __init__(self, path: Path) -> None:
        self._graph = open_graph(path)
        info = self._graph.info
        if info.kind != "base-encode":
            raise WeightsError(f"{path}: expected an encode graph, got {info.kind}", fix="Name the export's folder.")
        self.config = _config(info, path)

    @cached_property
    def analyzer(self) -> FaceAnalyzer:
        """The face analyzer; its weights are downloaded on first use."""
        return FaceAnalyzer()

    @cached_property
    def matting(self) -> Matting:
        """The matting network; its weights are downloaded on first use."""
        return Matting()

    def encode(self, source: Source, *, face: int | None = None) -> GraphPortrait:
        """See `pipeline.protocols.Encoder`."""
        head = find_source_head(source, self.analyzer, face)
        prepared = prepare_source(head, self.config, self.matting, torch.device("cpu"))
        photo = head_crop_tensor(prepared.seen, self.config.image_size, torch.device("cpu")).numpy()
        blendshapes = select_blendshapes(head.face.blendshapes, self.config.motion.blendshapes)[None]
        tensors = self._graph({"photo": photo, **pose_arrays(prepared.pose), BLENDSHAPES_INPUT: blendshapes})
        return GraphPortrait(**vars(prepared), tensors=tensors)


def open_as(path: Path, setting: Setting) -> Graph:
    """Open a graph with a setting. "int8" needs no option of the runtime: it is a property of the file."""
    if setting.runtime == "torch":
        raise ConfigError(f"{path}: torch does not run exported graphs", fix="Take onnxruntime or openvino.")
    precision = "bfloat16" if setting.precision == "bfloat16" else "float32"
    return open_graph(path, setting.runtime, threads=setting.threads, precision=precision)


def _config(info: GraphInfo, path: Path) -> ModelConfig:
    where = f"{path}: the model's config in the metadata"
    value = parse_json(info.model, where, WeightsError, fix="Export the model again.")
    return parse_config(ModelConfig, value, where)


def _pose_of(arrays: Arrays, prefix: str) -> HeadPose:
    """The pose in a graph's outputs, batch 1; `prefix` starts the outputs' names."""
    rotation, translation, scale = (arrays[prefix + name][0] for name in POSE_INPUTS)
    return HeadPose(rotation.astype(np.float64), translation.astype(np.float64), float(scale))


def _rendering(image: np.ndarray, alpha: np.ndarray | None, pose: HeadPose) -> Rendering:
    colors = np.clip(image[0].transpose(1, 2, 0), 0, 1).astype(np.float32)
    matte = np.ones((*colors.shape[:2], 1), np.float32) if alpha is None else np.clip(alpha[0, 0, ..., None], 0, 1)
    return Rendering(np.concatenate([colors * matte, matte.astype(np.float32)], axis=-1), pose)


def _torch_precision(setting: Setting) -> Precision:
    if setting.precision == "float32":
        return "float32"
    if setting.precision == "bfloat16":
        return "bfloat16"
    raise ConfigError(
        f"precision: torch runs live in float32 or bfloat16, got {setting.precision!r}", fix="Export for int8."
    )
