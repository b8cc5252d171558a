"""Typed training batches. Each field declares how it changes when its image is mirrored or cropped.

To add a label, add one field here and fill it in the data set that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Self, TypeVar, get_args, get_type_hints

import torch
from torch import Tensor
from torch.utils.data import default_collate

from megaportraits.errors import DataError
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.faces.outlines import MIRRORED
from megaportraits.ops.warping import Pose, crop_around

_AXES = (-1.0, 1.0, 1.0)
"""Mirroring negates a head point's x: the subject's left becomes the right."""


@dataclass(frozen=True)
class FieldRule:
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


Fixed = Annotated[Tensor, FieldRule()]
"""A value of a sample that does not depend on the image, (B,)."""
Picture = Annotated[Tensor, FieldRule(_mirror_picture, _crop_picture)]
"""(B, C, S, S)."""
Rotation = Annotated[Tensor, FieldRule(_mirror_rotation)]
"""(B, 3, 3), see `ops.warping.Pose`."""
Translation = Annotated[Tensor, FieldRule(_mirror_place, _crop_place)]
"""(B, 2), crop units."""
Scale = Annotated[Tensor, FieldRule(crop=_crop_scale)]
"""(B,)."""
Blendshapes = Annotated[Tensor, FieldRule(_mirror_blendshapes)]
"""(B, 52), MediaPipe's blendshapes in the order of `BLENDSHAPE_NAMES`, NaN where unknown."""
Landmarks = Annotated[Tensor, FieldRule(_mirror_landmarks, _crop_place)]
"""(B, n, 2), the points of `faces.outlines.FEATURES` in crop units, NaN where unknown."""
Readout = Annotated[Tensor, FieldRule(_mirror_readout)]
"""(B, expression labels + 2): expression labels, then gaze yaw and pitch in units of 25 degrees; NaN where unknown."""
Gaze = Annotated[Tensor, FieldRule(_mirror_place)]
"""(B, 2), yaw and pitch in degrees; NaN where unknown."""
Blink = Annotated[Tensor, FieldRule(_mirror_blink)]
"""(B,) or (B, 2), 0 (open) to 1 (closed); NaN where unknown."""
SurfaceCoordinates = Annotated[Tensor, FieldRule(_mirror_coords, crops=False)]
"""(B, h, w, 4): canonical X, Y, Z and depth of the visible surface. Its cells are fixed in the head crop."""
SurfaceMask = Annotated[Tensor, FieldRule(_mirror_map, crops=False)]
"""(B, h, w) bool: where `SurfaceCoordinates` are known."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors (B, ...) of B samples. Every field is one of the annotated types above, or a batch itself.

    An item of a data set has the same type, without the dimension B; `collate` stacks items. Batches pass through
    loading processes (pickled), pinned memory (`pin_memory`) and Lightning Fabric (`to`).
    """

    def __len__(self) -> int:
        """The number of samples B."""
        return next(len(value) for value in self.tensors().values() if value.ndim)

    def __getitem__(self, index: slice | Tensor) -> Self:
        return self._changed(lambda path, value, rule: value[index] if value.ndim else value)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by their paths, for example `target.image`."""
        found: dict[str, Tensor] = {}

        def note(path: str, value: Tensor, rule: FieldRule) -> Tensor:
            return found.setdefault(path, value)

        self._changed(note)
        return found

    def mirror(self, which: Tensor, names: Sequence[str] = ()) -> Self:
        """Mirror some samples, both pixels and labels (B.1): the subject's left becomes the right.

        Args:
            which: (B,) bool, the samples to mirror.
            names: the names of the expression labels, which come first in every `Readout`.
        """

        def change(path: str, value: Tensor, rule: FieldRule) -> Tensor:
            if rule.mirror is None:
                return value
            chosen = which.reshape(-1, *[1] * (value.ndim - 1)).to(value.device)
            return torch.where(chosen, rule.mirror(value, names), value)

        return self._changed(change)

    def mirror_half(self, generator: torch.Generator, names: Sequence[str] = ()) -> Self:
        """Mirror every sample with probability 1/2; `generator` is on the CPU, `names` as for `mirror`."""
        return self.mirror(torch.rand(len(self), generator=generator) < 0.5, names)

    def crop(self, center: Tensor, half_side: Tensor) -> Self:
        """Take a square crop of every image, resample it at the image's size, and adapt the labels.

        Images must be in floating point.

        Args:
            center: (B, 2), centres of the crops, in crop units.
            half_side: (B,), half sides of the crops, in crop units.

        Raises:
            DataError: the batch contains a tensor that cannot be cropped.
        """

        def change(path: str, value: Tensor, rule: FieldRule) -> Tensor:
            if not rule.crops:
                raise DataError(f"a batch with {path!r} cannot be cropped", fix="Crop a batch without surface maps.")
            return value if rule.crop is None else rule.crop(value, center, half_side)

        return self._changed(change)

    def to(self, device: torch.device | str) -> Self:
        """Copy the batch to a device; from pinned memory to a GPU, the copy is asynchronous."""
        waits = torch.device(device).type in ("cpu", "mps")
        return self._changed(lambda path, value, rule: value.to(device, non_blocking=not waits))

    def pin_memory(self) -> Self:
        """Copy the batch to pinned memory. A `DataLoader` with `pin_memory=True` calls this."""
        return self._changed(lambda path, value, rule: value.pin_memory())

    @classmethod
    def collate(cls, items: Sequence[Self]) -> Self:
        """Stack items into a batch."""
        values: dict[str, Any] = {}
        for name in _rules(cls):
            parts = [getattr(item, name) for item in items]
            first = parts[0]
            if isinstance(first, Batch):
                values[name] = type(first).collate(parts)
            else:  # torch's collation stacks directly into the memory that a loading process shares
                values[name] = None if first is None else default_collate(parts)
        return cls(**values)

    def _changed(self, change: Callable[[str, Tensor, FieldRule], Tensor], path: str = "") -> Self:
        """A copy with every tensor replaced by `change(path, tensor, rule)`; a path is for example `target.image`."""
        values: dict[str, Any] = {}
        for name, rule in _rules(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, Batch):
                values[name] = value._changed(change, f"{path}{name}.")
            elif value is not None and rule is not None:
                values[name] = change(path + name, value, rule)
        return replace(self, **values)


B = TypeVar("B", bound=Batch)


def collate(items: Sequence[B]) -> B:
    """Stack items of one type into a batch; a `DataLoader` takes this as `collate_fn`."""
    return type(items[0]).collate(items)


_RULES: dict[type[Batch], Mapping[str, FieldRule | None]] = {}


def _rules(kind: type[Batch]) -> Mapping[str, FieldRule | None]:
    """The rule of every field, None for a field that is a batch itself.

    Raises:
        TypeError: a field is neither.
    """
    if kind not in _RULES:
        _RULES[kind] = _read_rules(kind)
    return _RULES[kind]


def _read_rules(kind: type[Batch]) -> Mapping[str, FieldRule | None]:
    hints, rules = get_type_hints(kind, include_extras=True), {}
    for name in (declared.name for declared in fields(kind)):
        hint = hints[name]
        parts = (hint, *get_args(hint))  # the second part is for `X | None`
        found = [rule for part in parts for rule in getattr(part, "__metadata__", ()) if isinstance(rule, FieldRule)]
        if not found and not (isinstance(hint, type) and issubclass(hint, Batch)):
            raise TypeError(f"{kind.__name__}.{name} does not declare how it is mirrored and cropped")
        rules[name] = found[0] if found else None
    return rules


@dataclass(frozen=True, eq=False)
class MattedImage(Batch):
    """Head crops with their alpha.

    Attributes:
        image: (B, 3, S, S) uint8 in data sets.
        matte: (B, 1, S, S) uint8 in data sets.
    """

    image: Picture
    matte: Picture


@dataclass(frozen=True, eq=False)
class PosedImage(MattedImage):
    """Head crops with head-pose labels."""

    rotation: Rotation
    translation: Translation
    scale: Scale

    @property
    def pose(self) -> Pose:
        """The head-pose labels."""
        return Pose(self.rotation, self.translation, self.scale)


@dataclass(frozen=True, eq=False)
class MeasuredImage(PosedImage):
    """Head crops with head-pose labels and measured blendshapes."""

    blendshapes: Blendshapes


@dataclass(frozen=True, eq=False)
class LabelledFrame(MeasuredImage):
    """Frames with all labels that clips have."""

    readout: Readout
    landmarks: Landmarks
    coords: SurfaceCoordinates
    valid: SurfaceMask


@dataclass(frozen=True, eq=False)
class TrainingBatch(Batch):
    """What the training loop takes from a data set.

    Attributes:
        unreadable: (B,), how many unreadable files were skipped for a sample.
    """

    unreadable: Fixed = field(default_factory=lambda: torch.tensor(0), kw_only=True)


@dataclass(frozen=True, eq=False)
class PairBatch(TrainingBatch):
    """Training pairs (`data.pairs`).

    Attributes:
        identity: number of the source's clip.
        person: number of the source's person.
        cross: bool, whether the driver is another person.
    """

    source: LabelledFrame
    target: LabelledFrame
    driver: MattedImage
    identity: Fixed
    person: Fixed
    cross: Fixed


@dataclass(frozen=True, eq=False)
class PhotoBatch(TrainingBatch):
    """Pairs from photographs (`data.photos`): two views of one photograph, and a view of another person's.

    Attributes:
        identity: number of the photograph's clip.
        stranger: number of the other person's clip.
    """

    source: MeasuredImage
    target: MeasuredImage
    driver: MeasuredImage
    identity: Fixed
    stranger: Fixed


@dataclass(frozen=True, eq=False)
class FrameBatch(PosedImage, TrainingBatch):
    """Single frames (`data.frames`).

    Attributes:
        gaze: see `Gaze`.
        blink: see `Blink`.
        real: bool, whether the clip is of kind "real".
        clip: number of the clip.
        frame: number of the frame in its clip.
        landmarks: None if the data set was not asked for landmarks.
    """

    gaze: Gaze
    blink: Blink
    real: Fixed
    clip: Fixed
    frame: Fixed
    landmarks: Landmarks | None = None


@dataclass(frozen=True, eq=False)
class DistillationBatch(PosedImage, TrainingBatch):
    """Distillation samples (`data.distillation_dataset`): `image` and `matte` are the teacher's.

    Attributes:
        driver: the driver's head crop.
        avatar: number of the avatar.
        sample: number of the sample.
    """

    driver: MattedImage
    avatar: Fixed
    sample: Fixed


@dataclass(frozen=True, eq=False)
class JointBatch(TrainingBatch):
    """Pairs of frames together with photographs (`data.joint`); `unreadable` is the sum of both."""

    pairs: PairBatch
    photos: PhotoBatch
