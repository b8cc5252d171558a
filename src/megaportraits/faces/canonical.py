"""MediaPipe's canonical face mesh, transformed into the head axes of `docs/conventions.md`.

The mesh and the weights of its rigid points come with `face_landmarker.task`; the similarity into the axes of
ICT-FaceKit's neutral head is four numbers, derived once (below).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from megaportraits import weights
from megaportraits.errors import WeightsError
from megaportraits.faces.landmarks import MESH_COUNT
from megaportraits.faces.networks import task_member

Array = npt.NDArray[np.float64]

# MediaPipe's canonical mesh to ICT-FaceKit's neutral head: V = SCALE * Rx(PITCH) @ m + (0, SHIFT_Y, SHIFT_Z),
# x being shared by symmetry. Calibrated on 210 renders of 70 ICT identities with known poses (yaw to 25
# degrees, pitch to 14, roll to 10) so that poses fitted to the landmarks found there have no mean error;
# single poses are then off by 2.4 degrees and 0.17 cm in the median. Matching the two meshes point by point
# gives the same within 1 %, 0.9 degrees and 0.1 cm.
_SCALE = 0.9916
_PITCH_DEGREES = -0.25
_SHIFT_Y = 0.82
_SHIFT_Z = 5.467

_METADATA = "geometry_pipeline_metadata_landmarks.binarypb"


@dataclass(frozen=True)
class CanonicalMesh:
    """The mean face.

    Attributes:
        vertices: (468, 3), centimetres, head axes.
        triangles: (n, 3), vertex indices.
        rigid: (k,), indices of the points that move least with expression.
        rigid_weights: (k,), their weights, sum 1.
    """

    vertices: Array
    triangles: npt.NDArray[np.int64]
    rigid: npt.NDArray[np.int64]
    rigid_weights: Array


@lru_cache(maxsize=1)
def canonical_mesh() -> CanonicalMesh:
    """The canonical mesh of `face_landmarker.task` (downloaded if missing) in head axes.

    Raises:
        WeightsError: the bundle cannot be downloaded or its geometry cannot be read.
    """
    path = weights.fetch("face_landmarker")
    vertices, triangles, basis = _parse(task_member(path, _METADATA))
    if vertices.shape != (MESH_COUNT, 3):
        raise WeightsError(
            f"Expected {MESH_COUNT} canonical vertices in {path}, got {vertices.shape}.",
            fix="Delete the file and run `megaportraits weights pull face_landmarker`.",
        )
    angle = np.radians(_PITCH_DEGREES)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    head = _SCALE * vertices @ turn.T + (0, _SHIFT_Y, _SHIFT_Z)
    rigid = np.array(sorted(basis))
    importance = np.array([basis[index] for index in rigid.tolist()])
    return CanonicalMesh(head, triangles, rigid, importance / importance.sum())


def _parse(data: bytes) -> tuple[Array, npt.NDArray[np.int64], dict[int, float]]:
    """Read mediapipe's GeometryPipelineMetadata: field 1 mesh (3 vertices, 4 indices), 2 rigid basis."""
    floats: list[float] = []
    indices: list[int] = []
    basis: dict[int, float] = {}
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            for inner, item in _fields(value):
                if inner == 3:
                    raw = item if isinstance(item, bytes) else struct.pack("<f", item)
                    floats += struct.unpack(f"<{len(raw) // 4}f", raw)
                elif inner == 4:
                    indices += _varints(item) if isinstance(item, bytes) else [int(item)]
        elif number == 2 and isinstance(value, bytes):
            entry = dict(_fields(value))
            basis[int(entry[1])] = float(entry[2])
    # Five floats a vertex: position and texture coordinate.
    return np.array(floats).reshape(-1, 5)[:, :3], np.array(indices, np.int64).reshape(-1, 3), basis


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """(field number, value) of one protobuf message: varints, 32-bit floats and length-delimited bytes."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        value: int | float | bytes
        if kind == 0:
            value, position = _varint(data, position)
        elif kind == 5:
            value, position = struct.unpack_from("<f", data, position)[0], position + 4
        else:
            length, position = _varint(data, position)
            value, position = data[position : position + length], position + length
        yield key >> 3, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return result, position


def _varints(data: bytes) -> list[int]:
    values, position = [], 0
    while position < len(data):
        value, position = _varint(data, position)
        values.append(value)
    return values
