"""The tensors of training batches. Each one declares how it changes when its image is mirrored or cropped.

To add a label, add one line here and one line in the data set that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megaportraits.errors import DataError
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.faces.outlines import MIRRORED
from megaportraits.ops.warping import crop_around

Batch = dict[str, Tensor]
_AXES = (-1.0, 1.0, 1.0)
"""Mirroring negates a head point's x: the subject's left becomes the right."""


@dataclass(frozen=True)
class Field:
    """How one tensor of a batch changes when its image is mirrored or cropped.

    Attributes:
        mirror: takes the tensor (B, ...) and the names of the expression labels, returns the mirrored tensor. None:
            the tensor does not change.
        crop: takes the tensor and a crop's centre (B, 2) and half side (B,) in crop units, returns the tensor for the
            crop. None: the tensor does not change.
        crops: whether a batch with this tensor can be cropped.
    """

    mirror: Callable[[Tensor, Sequence[str]], Tensor] | None = None
    crop: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    crops: bool = True


Fields = Mapping[str, Field]


def mirrored_names(names: Sequence[str]) -> list[int]:
    """For each name, the index of its mirror image: `_L` and `_R`, `Left` and `Right` are exchanged."""

    def mirror(name: str) -> str:
        for left, right in (("_L", "_R"), ("Left", "Right")):
            if name.endswith(left):
                return name.removesuffix(left) + right
            if name.endswith(right):
                return name.removesuffix(right) + left
        return name

    position = {name: index for index, name in enumerate(names)}
    return [position.get(mirror(name), index) for index, name in enumerate(names)]


def _mirror_picture(value: Tensor, names: Sequence[str]) -> Tensor:
    return value.flip(-1)


def _crop_picture(value: Tensor, center: Tensor, half_side: Tensor) -> Tensor:
    return crop_around(value, center, half_side, value.shape[-1])


def _mirror_rotation(value: Tensor, names: Sequence[str]) -> Tensor:
    signs = value.new_tensor(_AXES)
    return value * signs[:, None] * signs[None, :]


def _mirror_place(value: Tensor, names: Sequence[str]) -> Tensor:
    return value * value.new_tensor(_AXES[:2])


def _crop_place(value: Tensor, center: Tensor, half_side: Tensor) -> Tensor:
    shape = (-1, *[1] * (value.ndim - 2))
    return (value - center.reshape(*shape, 2)) / half_side.reshape(*shape, 1)


def _crop_scale(value: Tensor, center: Tensor, half_side: Tensor) -> Tensor:
    return value / half_side


def _mirror_landmarks(value: Tensor, names: Sequence[str]) -> Tensor:
    return value[:, list(MIRRORED)] * value.new_tensor(_AXES[:2])


def _mirror_blink(value: Tensor, names: Sequence[str]) -> Tensor:
    return value.flip(-1) if value.ndim > 1 else value  # both eyes; their mean has no side


def _mirror_blendshapes(value: Tensor, names: Sequence[str]) -> Tensor:
    return value[:, mirrored_names(BLENDSHAPE_NAMES)]


def _mirror_readout(value: Tensor, names: Sequence[str]) -> Tensor:
    """Expression labels change places by name; gaze yaw changes its sign; gaze pitch stays."""
    order = [*mirrored_names(names), len(names), len(names) + 1]
    signs = value.new_ones(len(order))
    signs[-2] = -1
    return value[:, order] * signs


def _mirror_coords(value: Tensor, names: Sequence[str]) -> Tensor:
    return value.flip(2) * value.new_tensor([*_AXES, 1.0])  # X, Y, Z, depth


def _mirror_map(value: Tensor, names: Sequence[str]) -> Tensor:
    return value.flip(2)


FIXED = Field()
"""Values of a sample that do not depend on the image."""
PICTURE = {name: Field(_mirror_picture, _crop_picture) for name in ("image", "matte")}
"""(B, 3, S, S) and (B, 1, S, S)."""
POSE = {
    "rotation": Field(_mirror_rotation),
    "translation": Field(_mirror_place, _crop_place),
    "scale": Field(crop=_crop_scale),
}
"""(B, 3, 3), (B, 2) and (B,): `ops.warping.Pose`."""
BLENDSHAPES = {"scores": Field(_mirror_blendshapes)}
"""(B, 52), MediaPipe's blendshapes, in the order of `BLENDSHAPE_NAMES`."""
LANDMARKS = {"landmarks": Field(_mirror_landmarks, _crop_place)}
"""(B, n, 2), the points of `faces.outlines.FEATURES`, in crop units."""
READOUT = {"readout": Field(_mirror_readout)}
"""(B, expression labels + 2): expression labels, then gaze."""
EYES = {"gaze": Field(_mirror_place), "blink": Field(_mirror_blink)}
"""(B, 2) degrees, and (B,) or (B, 2)."""
SURFACE = {"coords": Field(_mirror_coords, crops=False), "valid": Field(_mirror_map, crops=False)}
"""(B, h, w, 4) and (B, h, w): the map of the visible surface. Its cells are fixed in the head crop."""


def of_roles(**roles: Fields) -> dict[str, Field]:
    """Fields of several images: the field `image` of the role `source` is named `source_image`."""
    return {f"{role}_{name}": field for role, fields in roles.items() for name, field in fields.items()}


_LABELLED = {**PICTURE, **POSE, **READOUT, **BLENDSHAPES, **LANDMARKS, **SURFACE}
PAIR_BATCH: Fields = {
    **of_roles(source=_LABELLED, target=_LABELLED, driver=PICTURE),
    **dict.fromkeys(("identity", "person", "cross", "unreadable"), FIXED),
}
"""The fields of a batch of `data.pairs`."""
_PHOTO = {**PICTURE, **POSE, **BLENDSHAPES}
PHOTO_BATCH: Fields = {
    **of_roles(source=_PHOTO, target=_PHOTO, driver=_PHOTO),
    **dict.fromkeys(("identity", "stranger", "unreadable"), FIXED),
}
"""The fields of a batch of `data.photos`."""
FRAME_BATCH: Fields = {
    **PICTURE,
    **POSE,
    **EYES,
    **LANDMARKS,
    **dict.fromkeys(("real", "clip", "frame", "unreadable"), FIXED),
}
"""The fields of a batch of `data.frames`."""


def mirror(batch: Batch, fields: Fields, which: Tensor, names: Sequence[str] = ()) -> Batch:
    """Mirror some samples of a batch, both pixels and labels (B.1): the subject's left becomes the right.

    Args:
        batch: tensors (B, ...) of these fields.
        fields: `PAIR_BATCH`, `PHOTO_BATCH` or `FRAME_BATCH`.
        which: (B,) bool, the samples to mirror.
        names: the names of the expression labels, which come first in every `readout`.

    Raises:
        DataError: the batch contains a tensor that `fields` does not declare.
    """
    out = {}
    for key, value in batch.items():
        change = _field(key, fields).mirror
        if change is not None:
            chosen = which.reshape(-1, *[1] * (value.ndim - 1)).to(value.device)
            value = torch.where(chosen, change(value, names), value)
        out[key] = value
    return out


def crop(batch: Batch, fields: Fields, center: Tensor, half_side: Tensor) -> Batch:
    """Take a square crop of every image of a batch, resample it at the image's size, and adapt the labels.

    Args:
        batch: as for `mirror`; images in floating point.
        fields: as for `mirror`.
        center: (B, 2), centres of the crops, in crop units.
        half_side: (B,), half sides of the crops, in crop units.

    Raises:
        DataError: as for `mirror`, or the batch contains a tensor that cannot be cropped.
    """
    out = {}
    for key, value in batch.items():
        field = _field(key, fields)
        if not field.crops:
            raise DataError(f"a batch with {key!r} cannot be cropped", fix="Leave that field out of the batch.")
        out[key] = value if field.crop is None else field.crop(value, center, half_side)
    return out


def collate(items: Sequence[Batch]) -> Batch:
    """Stack the tensors of all items into one batch."""
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


def _field(key: str, fields: Fields) -> Field:
    if key not in fields:
        raise DataError(
            f"the batch holds {key!r}, which its fields do not declare", fix="Declare it in data/batches.py."
        )
    return fields[key]
