"""The exported graphs as torch modules with tensor inputs and named tensor outputs.

The base model becomes two graphs: the part that depends on the source alone runs once per source, the rest of Figure 2
once per frame. The student is one graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from megaportraits.export.tensors import flatten, rebuild
from megaportraits.models.base import BaseModel
from megaportraits.models.identity import Identity
from megaportraits.models.motion import Motion, infer_motion
from megaportraits.models.picture import finish_picture
from megaportraits.models.student import Student
from megaportraits.ops.warping import Pose
from megaportraits.pipeline.motion import edit_motion

POSE_INPUTS = ("rotation", "translation", "scale")
"""(1, 3, 3), (1, 2), (1,): a head pose in crop coordinates (docs/conventions.md)."""
BLENDSHAPES_INPUT = "blendshapes"
"""(1, n): the blendshapes that `MotionConfig.blendshapes` names, NaN where unknown. Absent where it names none."""


def motion_inputs(model: BaseModel) -> tuple[str, ...]:
    """Names of the inputs, beside the image, for a face's measured pose and blendshapes."""
    return (*POSE_INPUTS, BLENDSHAPES_INPUT) if model.config.motion.blendshapes else POSE_INPUTS


def find_motion(model: BaseModel, image: Tensor, measured: Sequence[Tensor]) -> Motion:
    """The motion of a head crop by E_mtn.

    `measured` holds the values of `motion_inputs`, and only the expression network runs; if it is empty, E_mtn also
    estimates the head pose.
    """
    pose = Pose(*measured[:3]) if measured else None
    return infer_motion(model, image, pose, measured[3] if len(measured) > 3 else None)


class EncodeGraph(nn.Module):
    """Runs once per source: maps the head crop over its flat background to the tensors of an `Identity`.

    Args:
        model: the base model.
        names: which of the identity's tensors to return; None returns all.
    """

    def __init__(self, model: BaseModel, names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, photo: Tensor, *measured: Tensor) -> tuple[Tensor, ...]:
        """Args: photo (1, 3, S, S) in [0, 1]; then `motion_inputs` or nothing."""
        tensors = flatten(self.model.encode(photo, find_motion(self.model, photo, measured)))
        # A tensor may be an input itself (the source), but ONNX requires computed outputs, hence the product with 1.
        return tuple(tensors[name] * 1 for name in self.names or tensors)


class DriveGraph(nn.Module):
    """Runs once per frame: maps a driver's head crop and an identity to the image, as `pipeline.Avatar.drive`.

    Args:
        model: the base model.
        example: an identity that has the structure of those at run time.
    """

    def __init__(self, model: BaseModel, example: Identity) -> None:
        super().__init__()
        self.model, self.example = model, example
        self.names = tuple(flatten(example))

    def forward(self, driver: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Args: driver (1, 3, S, S) in [0, 1]; the identity's tensors; `fine`; `motion_inputs` or nothing.

        `fine` (1, 4, L, L) in [0, 1] is `Portrait.fine`, only for models with a source skip; it sets the output size L.

        Returns:
            image (1, 3, L, L) in [0, 1]; alpha (1, 1, L, L), if the model predicts alpha; the rendered pose.
        """
        count = len(self.names)
        identity = rebuild(self.example, dict(zip(self.names, rest[:count], strict=True)))
        measured = rest[count + self.model.config.source_skip :]
        motion = edit_motion(identity.motion, find_motion(self.model, driver, measured))
        output = self.model.render(identity, motion)
        picture = finish_picture(output, rest[count] if self.model.config.source_skip else None)
        parts = (picture[:, :3],) if output.alpha is None else (picture[:, :3], picture[:, 3:])
        return (*parts, motion.pose.rotation * 1, motion.pose.translation * 1, motion.pose.scale * 1)


class StudentGraph(nn.Module):
    """Runs once per frame: maps a driver's head crop and an avatar's index to the avatar's image."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, driver: Tensor, avatar: Tensor) -> tuple[Tensor, ...]:
        """Args: driver (1, 3, S, S) in [0, 1]; avatar (1,) int64."""
        return _picture(self.student, driver, avatar)


class BakedStudentGraph(nn.Module):
    """`StudentGraph` for a single avatar, whose identity is stored as constants."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, driver: Tensor) -> tuple[Tensor, ...]:
        """Args: driver (1, 3, S, S) in [0, 1]."""
        return _picture(self.student, driver, torch.zeros(1, dtype=torch.int64, device=driver.device))


def _picture(student: Student, driver: Tensor, avatar: Tensor) -> tuple[Tensor, ...]:
    output = student(driver, avatar)
    return (output.image,) if output.alpha is None else (output.image, output.alpha)
