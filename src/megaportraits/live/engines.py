"""Whatever draws one frame: the base model or a student, in torch or as exported graphs, behind one call."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from megaportraits.config import ModelConfig, parse_config
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.export.graphs import SCORES_INPUT
from megaportraits.export.tensors import flatten
from megaportraits.faces.detector import Blendshapes
from megaportraits.faces.landmarks import scores_of
from megaportraits.media.images import UInt8
from megaportraits.models.base import BaseModel, Identity
from megaportraits.models.motion import Motion
from megaportraits.models.storage import load_student
from megaportraits.nn.inference import prepare_for_inference, running
from megaportraits.ops.geometry import HeadPose
from megaportraits.ops.precision import Precision
from megaportraits.ops.warping import Pose
from megaportraits.pipeline import Avatar, Portrait, PoseFrom, Rendering
from megaportraits.pipeline.motion import edit_motion
from megaportraits.pipeline.options import MotionOptions
from megaportraits.reading import parse_json
from megaportraits.runtimes import Graph, open_graph
from megaportraits.runtimes.arrays import image_array, pose_arrays
from megaportraits.runtimes.graph import GraphInfo
from megaportraits.runtimes.opening import RuntimeName

Sample = tuple[UInt8, HeadPose, Blendshapes]
"""What `Engine.draw` takes."""


@dataclass(frozen=True)
class Setting:
    """How networks are run.

    Attributes:
        runtime: "torch", "onnxruntime" or "openvino".
        precision: "float32", "bfloat16", or "int8" (an exported file of that kind).
        threads: threads the network may use.
        device: where torch runs, "cpu" or "cuda"; exported graphs run on the processor.
    """

    runtime: str
    precision: str
    threads: int
    device: str = "cpu"

    def __str__(self) -> str:
        if self.device != "cpu":
            return f"{self.runtime} {self.precision} on {self.device}"
        return f"{self.runtime} {self.precision}, {self.threads} thread{'s' * (self.threads != 1)}"


class Engine(Protocol):
    """Draws the person. Not for two threads at once.

    Attributes:
        size: side of the head crops that it takes, pixels.
    """

    size: int

    def draw(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Rendering:
        """The person moving like a driver.

        Args:
            head: (size, size, 3) uint8, the driver's head crop.
            pose: of that head by its landmarks, crop coordinates.
            blendshapes: of its face.
        """
        ...


class TorchBase:
    """The base model in torch, on its avatar's device.

    Args:
        avatar: the model.
        portrait: the person.
        setting: how it is run.
        options: control over the motion; None: the driver's own.

    Attributes:
        relative: whether motion starts from a neutral head, which `rest` takes.
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
        """Take a head as the driver's neutral one, from which relative motion starts; arguments as for `draw`."""
        self._neutral = self._motion(head, pose, blendshapes)

    def draw(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Rendering:
        # Before anybody is neutral, as while ways to run it are measured, motion is absolute.
        options = MotionOptions() if self.relative and self._neutral is None else self._options
        driven = self._motion(head, pose, blendshapes)
        return self._avatar.render(
            self._portrait, edit_motion(self._portrait.motion, driven, options, neutral=self._neutral)
        )

    def _motion(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Motion:
        return self._avatar.motions([head], [pose], [blendshapes])[0]


class TorchStudent:
    """A student in torch; what depends on the avatar alone is computed once."""

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
    """The exported per-frame graph of the base model, with a person that `GraphModel` encoded."""

    def __init__(self, path: Path, portrait: Portrait, setting: Setting) -> None:
        self._graph = open_as(path, setting)
        self.size = self._graph.inputs["driver"][-1]
        self._inputs = {name: tensor.numpy() for name, tensor in flatten(portrait.identity).items()}
        self._scores = _config(self._graph.info, path).motion.blendshapes
        if "fine" in self._graph.inputs:
            side = self._graph.inputs["fine"][-1]
            fine = portrait.fine[0].permute(1, 2, 0).numpy()
            how = cv2.INTER_AREA if side < fine.shape[0] else cv2.INTER_CUBIC
            resized = np.clip(cv2.resize(fine, (side, side), interpolation=how), 0, 1)
            self._inputs["fine"] = np.ascontiguousarray(resized.transpose(2, 0, 1)[None], np.float32)

    def draw(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Rendering:
        measured = pose_arrays(pose) | {SCORES_INPUT: scores_of(blendshapes, self._scores)[None]}
        got = self._graph({"driver": image_array(head), **self._inputs, **measured})
        rendered = HeadPose(
            got["rendered_rotation"][0].astype(np.float64),
            got["rendered_translation"][0].astype(np.float64),
            float(got["rendered_scale"][0]),
        )
        return _rendering(got["image"], got.get("alpha"), rendered)


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


class GraphModel(nn.Module):
    """`encode.onnx` in the place of a `BaseModel`, so that `Avatar.encode` can look at photographs for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._graph = open_graph(path)
        info = self._graph.info
        if info.kind != "base-encode":
            raise WeightsError(f"{path}: expected an encode graph, got {info.kind}", fix="Name the export's folder.")
        self.config = _config(info, path)
        self.motion = _Measured(len(self.config.motion.blendshapes))
        self.pose_from = PoseFrom.LANDMARKS if info.pose == "landmarks" else PoseFrom.NETWORK

    def encode(self, source: Tensor, motion: Motion) -> Identity:
        """The tensors that the frame graph needs; the others are None."""
        pose = motion.pose
        got = self._graph(
            {
                "photo": source.numpy(),
                "rotation": pose.rotation.numpy(),
                "translation": pose.translation.numpy(),
                "scale": pose.scale.numpy(),
                SCORES_INPUT: motion.z.numpy(),
            }
        )
        tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in got.items()}
        found = Pose(*(tensors[f"motion.pose.{name}"] for name in ("rotation", "translation", "scale")))
        # The graph gives what the frame graph reads; the other fields are nobody's business here.
        values: dict[str, Any] = {field.name: tensors.get(field.name) for field in fields(Identity)}
        return Identity(**{**values, "motion": Motion(found, tensors.get("motion.z", torch.zeros(1, 0)))})


class _Measured(nn.Module):
    """E_mtn of a `GraphModel`, whose graphs find expressions themselves: in the place of z, the scores they correct by.

    Args:
        count: of those scores.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, image: Tensor, scores: Tensor | None = None) -> Motion:
        count = len(image)
        pose = Pose(torch.eye(3).repeat(count, 1, 1), torch.zeros(count, 2), torch.ones(count))
        return Motion(pose, self.encode_expression(image, pose, scores))

    def encode_expression(self, image: Tensor, pose: Pose, scores: Tensor | None = None) -> Tensor:
        del pose
        return torch.full((len(image), self.count), torch.nan) if scores is None else scores


def open_as(path: Path, setting: Setting) -> Graph:
    """A graph under a setting; "int8" is a property of the file, computed as it says."""
    precision = "bfloat16" if setting.precision == "bfloat16" else "float32"
    return open_graph(path, cast(RuntimeName, setting.runtime), threads=setting.threads, precision=precision)


def load_graph_avatar(encode: Path) -> Avatar:
    """An avatar that can encode portraits and nothing else."""
    model = GraphModel(encode)
    return Avatar(cast(BaseModel, model), pose_from=model.pose_from)


def _config(info: GraphInfo, path: Path) -> ModelConfig:
    where = f"{path}: the model's config in the metadata"
    value = parse_json(info.model, where, WeightsError, fix="Export the model again.")
    return parse_config(ModelConfig, value, where)


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
