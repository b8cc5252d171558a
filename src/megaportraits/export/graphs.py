"""What the exported graphs compute, as modules with tensors in and named tensors out.

The base model leaves as two graphs, as Figure 2 is cut: what depends on the source alone runs once per source, the
rest once per frame. The student is one graph.
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
SCORES_INPUT = "blendshapes"
"""(1, n): the measured scores that `MotionConfig.blendshapes` names, NaN where unknown; only where it names any."""


def motion_inputs(model: BaseModel) -> tuple[str, ...]:
    """What the graphs of a model take of a face that was measured, beside its picture."""
    return (*POSE_INPUTS, SCORES_INPUT) if model.config.motion.blendshapes else POSE_INPUTS


def find_motion(model: BaseModel, image: Tensor, measured: Sequence[Tensor]) -> Motion:
    """E_mtn of a head crop: all of it, or its expression half with what was measured, `motion_inputs` or nothing."""
    pose = Pose(*measured[:3]) if measured else None
    return infer_motion(model, image, pose, measured[3] if len(measured) > 3 else None)


class EncodeGraph(nn.Module):
    """Once per source: the flattened head crop to the tensors of an `Identity`.

    Args:
        model: the base model.
        names: which of the identity's tensors to give; None gives all.
    """

    def __init__(self, model: BaseModel, names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, photo: Tensor, *measured: Tensor) -> tuple[Tensor, ...]:
        """Args: photo (1, 3, S, S) in [0, 1]; then `motion_inputs` or nothing."""
        tensors = flatten(self.model.encode(photo, find_motion(self.model, photo, measured)))
        # A tensor may be an input itself (the source): a graph's output has to be computed.
        return tuple(tensors[name] * 1 for name in self.names or tensors)


class DriveGraph(nn.Module):
    """Once per frame: driver head crop and identity to the picture, as `pipeline.Avatar.drive`.

    Args:
        model: the base model.
        example: an identity, for the structure.
    """

    def __init__(self, model: BaseModel, example: Identity) -> None:
        super().__init__()
        self.model, self.example = model, example
        self.names = tuple(flatten(example))

    def forward(self, driver: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Args: driver (1, 3, S, S) in [0, 1]; the identity's tensors; `fine`; `motion_inputs` or nothing.

        `fine` (1, 4, L, L) in [0, 1] is `Portrait.fine`, with a source skip only: the picture becomes as large.

        Returns:
            image (1, 3, L, L) in [0, 1]; alpha (1, 1, L, L), if the model predicts a matte; the pose rendered.
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
    """Once per frame: driver head crop, and which avatar, to that avatar's picture."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, driver: Tensor, avatar: Tensor) -> tuple[Tensor, ...]:
        """Args: driver (1, 3, S, S) in [0, 1]; avatar (1,) int64."""
        return _picture(self.student, driver, avatar)


class BakedStudentGraph(nn.Module):
    """`StudentGraph` of a student of one avatar, whose identity is a constant."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, driver: Tensor) -> tuple[Tensor, ...]:
        """Args: driver (1, 3, S, S) in [0, 1]."""
        return _picture(self.student, driver, torch.zeros(1, dtype=torch.int64, device=driver.device))


def _picture(student: Student, driver: Tensor, avatar: Tensor) -> tuple[Tensor, ...]:
    output = student(driver, avatar)
    return (output.image,) if output.alpha is None else (output.image, output.alpha)
