"""The morphable head: ICT-FaceKit (USC ICT, MIT licence; Li et al., CVPR 2020) as arrays.

Axes are head space of `docs/conventions.md`: centimetres, +x the subject's left, +y up, +z to the camera. `_L` and `_R`
in names are the subject's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megaportraits.errors import DataError
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.reading import FAULTS, is_file, is_folder
from megaportraits.synth import facexmodel
from megaportraits.synth.compiled import compiled

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

REGIONS: dict[str, slice] = {
    "narrow_face": slice(0, 6706),
    "face": slice(0, 9409),
    "skin": slice(0, 11248),  # face, head and neck
    "mouth_socket": slice(11248, 13294),
    "gums": slice(14062, 17039),
    "teeth": slice(17039, 21451),
    "eye_L": slice(21451, 23021),
    "eye_R": slice(23021, 24591),
}
"""Vertex ranges of the parts, from the ICT-FaceKit documentation."""
VERTICES = 26719
EYE_LIMIT = 25.0
"""Degrees of gaze at which the lid shapes `eyeLook*` are fully applied."""
_SPARSE_CM = 1e-4  # smaller displacements are quantisation noise of the packed file
_NEEDED = (
    "neutral",
    "identity",
    "expression",
    "expression_names",
    "triangles",
    "triangles_uv",
    "triangle_material",
    "material_names",
    "uv",
    "landmarks68",
)


@dataclass(frozen=True)
class MorphableHead:
    """The arrays of the head model; build it with `load`.

    Attributes:
        neutral: (26719, 3) cm.
        identity: (n_id, 26719, 3) displacements of unit-variance identity modes.
        expression: (57, 26719, 3) displacements at coefficient 1.
        expression_names: the 57 names, sorted.
        triangles: (T, 3), counter-clockwise from outside with y up.
        triangles_uv: (T, 3) into `uv`.
        triangle_material: (T,) index into `material_names`.
        uv: (U, 2) in [0, 1], v up.
        landmarks68: (68,) vertices of the iBUG landmarks.
        mediapipe_vertex: (468,) vertex of each MediaPipe mesh point, or None.
        mediapipe_spread: (468,) cm of uncertainty of that correspondence, or None.
    """

    neutral: Floats
    identity: Floats
    expression: Floats
    expression_names: tuple[str, ...]
    triangles: Ints
    triangles_uv: Ints
    triangle_material: npt.NDArray[np.int8]
    material_names: tuple[str, ...]
    uv: Floats
    landmarks68: npt.NDArray[np.int64]
    mediapipe_vertex: npt.NDArray[np.int64] | None = None
    mediapipe_spread: Floats | None = None
    _index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {name: i for i, name in enumerate(self.expression_names)})

    @classmethod
    def load(cls, path: Path | str) -> MorphableHead:
        """Read a packed `.npz`, or a `FaceXModel` folder of OBJ files as ICT-FaceKit distributes it.

        Raises:
            DataError: no file, another model, or arrays of other shapes.
        """
        path = Path(path)
        if is_folder(path, DataError):
            arrays = _read_folder(path)
        elif is_file(path, DataError):
            arrays = _read_packed(path)
        else:
            raise DataError(f"No morphable head at {path}.", fix=facexmodel.WHERE)
        missing = [name for name in _NEEDED if name not in arrays]
        if missing or arrays["neutral"].shape != (VERTICES, 3):
            raise DataError(f"{path} is not an ICT-FaceKit head: missing {missing}.", fix=facexmodel.WHERE)
        try:
            return cls._of(arrays)
        except FAULTS as error:
            raise DataError(f"{path} is not an ICT-FaceKit head: {error}.", fix=facexmodel.WHERE) from error

    @classmethod
    def _of(cls, arrays: dict[str, npt.NDArray]) -> MorphableHead:
        """A head from the packed file's arrays; raises one of `FAULTS` if they are not this model's."""
        _check_arrays(arrays)
        return cls(
            neutral=arrays["neutral"].astype(np.float32),
            identity=arrays["identity"].astype(np.float32),
            expression=arrays["expression"].astype(np.float32),
            expression_names=tuple(str(name) for name in arrays["expression_names"]),
            triangles=np.ascontiguousarray(arrays["triangles"], np.int32),
            triangles_uv=np.ascontiguousarray(arrays["triangles_uv"], np.int32),
            triangle_material=arrays["triangle_material"].astype(np.int8),
            material_names=tuple(str(name) for name in arrays["material_names"]),
            uv=arrays["uv"].astype(np.float32),
            landmarks68=arrays["landmarks68"].astype(np.int64),
            mediapipe_vertex=arrays.get("mediapipe468_vertex"),
            mediapipe_spread=arrays.get("mediapipe468_spread_cm"),
        )

    @cached_property
    def sparse(self) -> tuple[Ints, Ints, Floats]:
        """Expression displacements as rows: starts (58,), vertex indices (M,), displacements (M, 3)."""
        moved = [np.flatnonzero((np.abs(shape) > _SPARSE_CM).any(1)) for shape in self.expression]
        starts = np.cumsum([0, *(len(rows) for rows in moved)]).astype(np.int32)
        deltas = np.concatenate([shape[rows] for shape, rows in zip(self.expression, moved, strict=True)])
        return starts, np.concatenate(moved).astype(np.int32), deltas

    def material(self, *names: str) -> npt.NDArray[np.bool_]:
        """(T,) mask of the triangles of these materials."""
        return np.isin(self.triangle_material, [self.material_names.index(name) for name in names])

    def index(self, name: str) -> int:
        """Index of an expression shape; KeyError if there is none of that name."""
        return self._index[name]

    def coefficients(self, weights: Mapping[str, float]) -> Floats:
        """Named weights to the full vector (57,)."""
        vector = np.zeros(len(self.expression_names), np.float32)
        for name, weight in weights.items():
            vector[self.index(name)] = weight
        return vector

    def shape(self, identity: npt.ArrayLike) -> Floats:
        """The neutral-expression mesh (26719, 3) of identity coefficients (k,), k <= 100."""
        modes = np.asarray(identity, np.float32)
        return self.neutral + np.tensordot(modes, self.identity[: len(modes)], 1)

    def express(self, base: Floats, expression: Floats, gaze: npt.ArrayLike = (0.0, 0.0)) -> Floats:
        """An expression and gaze on an identity mesh.

        Args:
            base: (26719, 3) of `shape`.
            expression: (57,) coefficients, applied unchanged; `lid_coupling` gives the coefficients that follow from a
                gaze.
            gaze: (2,) yaw and pitch in degrees relative to the head, for both eyes; +yaw to image right, +pitch down.

        Returns:
            (26719, 3) float32, a new array.
        """
        vertices = base.copy()
        _add_shapes(vertices, *self.sparse, np.ascontiguousarray(expression, np.float32))
        yaw, pitch = np.asarray(gaze, np.float64)
        if yaw or pitch:
            rotation = euler_to_matrix(yaw, pitch, 0).astype(np.float32)
            for eye in ("eye_L", "eye_R"):
                center = eyeball_center(base, eye)
                vertices[REGIONS[eye]] = (base[REGIONS[eye]] - center) @ rotation.T + center
        return vertices

    def lid_coupling(self, gaze: npt.ArrayLike) -> dict[str, float]:
        """Lid shapes of a gaze: rotating the eyeballs does not move the lids."""
        yaw, pitch = np.clip(np.asarray(gaze, np.float64) / EYE_LIMIT, -1, 1)
        left_out, right_out = max(yaw, 0.0), max(-yaw, 0.0)
        pairs = {
            "eyeLookDown": (max(pitch, 0.0), max(pitch, 0.0)),
            "eyeLookUp": (max(-pitch, 0.0), max(-pitch, 0.0)),
            "eyeLookOut": (left_out, right_out),
            "eyeLookIn": (right_out, left_out),
        }
        return {f"{name}_{side}": v for name, both in pairs.items() for side, v in zip("LR", both, strict=True) if v}


def eyeball_center(base: Floats, eye: str) -> Floats:
    """Centre (3,) of `eye_L` or `eye_R` of an identity mesh: the middle of its bounding box."""
    ball = base[REGIONS[eye]]
    return np.asarray((np.max(ball, axis=0) + np.min(ball, axis=0)) / 2, np.float32)


def optical_angle(base: Floats) -> Floats:
    """(26719,) degrees from each eyeball vertex to its optical axis, 0 elsewhere; the iris ends near 22.5."""
    angle = np.zeros(len(base), np.float32)
    for eye in ("eye_L", "eye_R"):
        ray = base[REGIONS[eye]] - eyeball_center(base, eye)
        angle[REGIONS[eye]] = np.degrees(np.arccos(np.clip(ray[:, 2] / np.linalg.norm(ray, axis=1), -1, 1)))
    return angle


def _check_arrays(arrays: dict[str, npt.NDArray]) -> None:
    """Check shapes and ranges, because compiled code does not check indices; raises ValueError."""
    names, expression, identity = arrays["expression_names"], arrays["expression"], arrays["identity"]
    if expression.shape != (len(names), VERTICES, 3) or identity.shape[1:] != (VERTICES, 3):
        raise ValueError(
            f"expected {len(names)} shapes of {VERTICES} vertices, got {expression.shape}, {identity.shape}"
        )
    for name in ("neutral", "identity", "expression", "uv"):
        if not np.isfinite(arrays[name].astype(np.float64)).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    ends = {
        "triangles": VERTICES,
        "triangles_uv": len(arrays["uv"]),
        "triangle_material": len(arrays["material_names"]),
        "landmarks68": VERTICES,
        "mediapipe468_vertex": VERTICES,
    }
    for name, end in ends.items():
        indices = arrays.get(name)
        if indices is not None and indices.size and not (indices.min() >= 0 and indices.max() < end):
            raise ValueError(f"{name} names entries outside of 0 to {end - 1}")


def _read_folder(path: Path) -> dict[str, npt.NDArray]:
    try:
        return facexmodel.read_folder(path)
    except FAULTS as error:
        raise DataError(f"{path} is not a FaceXModel folder: {error}.", fix=facexmodel.WHERE) from error


def _read_packed(path: Path) -> dict[str, npt.NDArray]:
    try:
        with np.load(path, allow_pickle=False) as packed:
            return {name: packed[name] for name in packed.files}
    except Exception as error:  # zipfile, zlib and numpy raise many types for damaged bytes
        raise DataError(f"{path} is not a packed morphable head: {error}.", fix=facexmodel.WHERE) from error


@compiled
def _add_shapes(vertices: Floats, starts: Ints, rows: Ints, deltas: Floats, weights: Floats) -> None:
    for shape in range(len(weights)):
        weight = weights[shape]
        if weight == 0:
            continue
        for entry in range(starts[shape], starts[shape + 1]):
            row = rows[entry]
            for axis in range(3):
                vertices[row, axis] += weight * deltas[entry, axis]
