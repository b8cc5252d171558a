"""Find the vertex of the morphable head for each MediaPipe landmark, from renderings.

The two meshes are unrelated, and a landmark network has systematic deviations. Heads of many shapes are therefore
rendered, landmarks are detected on them, and each landmark votes for the visible vertex at its position.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from megaportraits.media.files import check_output
from megaportraits.media.staging import staged_output
from megaportraits.ops.geometry import euler_to_matrix
from megaportraits.ops.pictures import composite
from megaportraits.synth.cg import CgCast, CgHead
from megaportraits.synth.head import REGIONS, MorphableHead
from megaportraits.synth.raster import Floats
from megaportraits.synth.stage import HeadMotion, SynthFrame, to_pixels

Detect = Callable[[npt.NDArray[np.uint8]], Floats | None]
LANDMARKS = 468
_SIZE = 320
_PEOPLE, _POSES = 60, 3
_YAW, _PITCH = 25.0, 12.0
_BEHIND = 0.016  # depth tolerance of a visible vertex, 0.25 cm
_REACH_PX = 4.0
_LEAST_VOTES = 20
_UNKNOWN_CM = 9.0


def find_correspondence(
    head: MorphableHead, detect: Detect, *, people: int = _PEOPLE
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Vertex (468,) of each landmark, -1 where too few votes agree, and the spread (468,) of its votes in cm.

    Args:
        head: the model.
        detect: an image (320, 320, 3) to landmarks (>= 468, >= 2) in pixels, or None.
        people: how many procedural people to render.
    """
    cast, rng = CgCast(head), np.random.default_rng(5)
    votes: list[list[Floats]] = [[] for _ in range(LANDMARKS)]
    for number in range(people):
        person = cast.person(number)
        for _ in range(_POSES):
            rotation = euler_to_matrix(rng.uniform(-_YAW, _YAW), rng.uniform(-_PITCH, _PITCH), 0)
            motion = HeadMotion.about_neck(head.coefficients({}), (0, 0), rotation)
            frame = person.render(motion, _SIZE, supersample=1, coords=False)
            landmarks = detect(_over_grey(frame))
            if landmarks is not None:
                _vote(votes, head, person, frame, landmarks)
    vertices = np.full(LANDMARKS, -1, np.int64)
    spread = np.full(LANDMARKS, _UNKNOWN_CM, np.float32)
    for index, points in enumerate(votes):
        if len(points) >= _LEAST_VOTES:
            middle = geometric_median(np.array(points))
            spread[index] = np.median(np.linalg.norm(np.array(points) - middle, axis=1))
            vertices[index] = np.argmin(((head.neutral[REGIONS["face"]] - middle) ** 2).sum(1))
    return vertices, spread


def pack_head(source: Path, out: Path, *, overwrite: bool = False) -> int:
    """Read a FaceXModel folder, find the correspondence and write the packed file.

    Args:
        source: the folder.
        out: the .npz file.
        overwrite: whether an existing file may be replaced.

    Returns:
        How many of the 468 landmarks have a vertex.

    Raises:
        DataError: `source` is no head.
        MediaError: `out` exists and may not be replaced, or cannot be written.
    """
    from megaportraits.faces.detector import FaceAnalyzer

    check_output(out, overwrite=overwrite, inputs=(source,))
    head, analyzer = MorphableHead.load(source), FaceAnalyzer(reject_animals=False)

    def detect(image: npt.NDArray[np.uint8]) -> Floats | None:
        faces = analyzer.detect(image)
        return faces[0].landmarks if faces else None

    vertices, spread = find_correspondence(head, detect)
    with staged_output(out, overwrite=overwrite, late=True) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            neutral=head.neutral,
            identity=head.identity.astype(np.float16),
            expression=head.expression.astype(np.float16),
            expression_names=np.array(head.expression_names),
            triangles=head.triangles,
            triangles_uv=head.triangles_uv,
            triangle_material=head.triangle_material,
            material_names=np.array(head.material_names),
            uv=head.uv,
            landmarks68=head.landmarks68,
            mediapipe468_vertex=vertices,
            mediapipe468_spread_cm=spread,
        )
    return int((vertices >= 0).sum())


def geometric_median(points: Floats, rounds: int = 20) -> Floats:
    """The point (3,) whose summed distance to points (N, 3) is least, by Weiszfeld's iteration."""
    middle = np.median(points, 0)
    for _ in range(rounds):
        weight = 1 / (np.linalg.norm(points - middle, axis=1) + 0.05)
        middle = (points * weight[:, None]).sum(0) / weight.sum()
    return middle.astype(np.float32)


def _vote(votes: list[list[Floats]], head: MorphableHead, person: CgHead, frame: SynthFrame, landmarks: Floats) -> None:
    face = REGIONS["face"]
    pixels = to_pixels(frame.placed[face], _SIZE)
    cell = np.clip(pixels[:, :2].astype(int), 0, _SIZE - 1)
    depth = frame.fragments.interpolate(person.triangles, frame.placed[:, 2:])[cell[:, 1], cell[:, 0], 0]
    visible = np.flatnonzero(pixels[:, 2] > depth - _BEHIND)
    found = cKDTree(pixels[visible, :2]).query(landmarks[:LANDMARKS, :2])
    distance, nearest = np.asarray(found[0]), np.asarray(found[1], np.int64)
    for index in np.flatnonzero(distance < _REACH_PX):
        votes[index].append(head.neutral[visible[nearest[index]]])


def _over_grey(frame: SynthFrame) -> npt.NDArray[np.uint8]:
    return composite(frame.image, frame.matte, 140)
