"""Read ICT-FaceKit's distribution: the folder `FaceXModel` of OBJ files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megaportraits.errors import DataError

WHERE = (
    "Get ICT-FaceKit (MIT licence) from https://github.com/USC-ICT/ICT-FaceKit and give its FaceXModel folder, "
    "or a packed ict_facekit.npz."
)
_NEUTRAL = "generic_neutral_mesh.obj"


def read_vertices(path: Path) -> npt.NDArray[np.float32]:
    """Vertex positions (N, 3) of an OBJ file, centimetres."""
    with path.open() as file:
        rows = [line.split()[1:4] for line in file if line.startswith("v ")]
    try:
        return np.array(rows, np.float64).astype(np.float32).reshape(-1, 3)
    except ValueError as error:
        raise DataError(f"{path} holds vertices that are no numbers: {error}.", fix=WHERE) from error


def read_topology(path: Path) -> dict[str, npt.NDArray]:
    """Triangles, uv and materials of an OBJ file; polygons are cut into fans from their first corner."""
    uv, corners, corners_uv, names = [], [], [], []
    material = ""
    with path.open() as file:
        for line in file:
            if line.startswith("vt "):
                uv.append([float(x) for x in line.split()[1:3]])
            elif line.startswith("usemtl"):
                material = line.split()[1]
            elif line.startswith("f "):
                polygon = [[int(x) - 1 for x in corner.split("/")[:2]] for corner in line.split()[1:]]
                for a, b in itertools.pairwise(polygon[1:]):
                    corners.append([polygon[0][0], a[0], b[0]])
                    corners_uv.append([polygon[0][1], a[1], b[1]])
                    names.append(material)
    materials = sorted(set(names))
    position = {name: i for i, name in enumerate(materials)}
    return {
        "triangles": np.array(corners, np.int32),
        "triangles_uv": np.array(corners_uv, np.int32),
        "triangle_material": np.array([position[name] for name in names], np.int8),
        "material_names": np.array(materials),
        "uv": np.array(uv, np.float32),
    }


def read_folder(folder: Path) -> dict[str, npt.NDArray]:
    """All arrays of a `FaceXModel` folder, as the packed file names them (without MediaPipe's points).

    Raises:
        DataError: the neutral mesh, `vertex_indices.json` or all shapes are missing, or a mesh has another size.
    """
    neutral_path, indices_path = folder / _NEUTRAL, folder / "vertex_indices.json"
    for path in (neutral_path, indices_path):
        if not path.is_file():
            raise DataError(f"{folder} is no FaceXModel folder: {path.name} is missing.", fix=WHERE)
    neutral = read_vertices(neutral_path)
    shapes = {path.stem: path for path in sorted(folder.glob("*.obj")) if path.name != _NEUTRAL}
    identity = [_displacement(shapes[name], neutral) for name in shapes if name.startswith("identity")]
    names = [name for name in shapes if not name.startswith("identity")]
    if not identity or not names:
        raise DataError(f"{folder} holds no identity or no expression shapes.", fix=WHERE)
    indices = json.loads(indices_path.read_text())
    return {
        "neutral": neutral,
        "identity": np.stack(identity),
        "expression": np.stack([_displacement(shapes[name], neutral) for name in names]),
        "expression_names": np.array(names),
        "landmarks68": np.array(indices["idx_to_landmark_verts"]),
        **read_topology(neutral_path),
    }


def _displacement(path: Path, neutral: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    vertices = read_vertices(path)
    if vertices.shape != neutral.shape:
        raise DataError(f"{path} has {len(vertices)} vertices, the neutral mesh {len(neutral)}.", fix=WHERE)
    return vertices - neutral
