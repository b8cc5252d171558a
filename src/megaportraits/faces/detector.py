"""Faces in images: detection, landmarks, blendshapes, and tracking of one face from frame to frame.

Detection is a cascade that stops at the first stage which finds a face: both detectors on the whole image; the image
with a wide border (close-ups) and turned by quarters; overlapping tiles at two zooms (distant faces). A candidate is
accepted as a face only if the landmark network accepts it and `AnimalCheck` does not classify it as an animal (the
landmark network also accepts muzzles).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import pi

import numpy as np
import numpy.typing as npt

from megaportraits import weights
from megaportraits.errors import FaceError
from megaportraits.faces.animals import AnimalCheck
from megaportraits.faces.blazeface import BlazeFace, Detection
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES, MESH_COUNT, LandmarkNet, region_of
from megaportraits.faces.networks import Image, Network, Region, check_image, task_member

MIN_PRESENCE = 0.5
_SMALLEST_FACE = 12.0
"""Side of the smallest region that is searched, pixels."""
_SAME_FACE = 0.4
"""Two candidates whose boxes have at least this intersection over union are one face."""
_MOVED = 0.12
"""Offset of a region, relative to its side, from which the landmarks are computed again."""
Box = npt.NDArray[np.float32]
Blendshapes = npt.NDArray[np.float32]
"""(52,) in [0, 1], in the order of `landmarks.BLENDSHAPE_NAMES`."""


@dataclass(frozen=True)
class Face:
    """A face in an image.

    Attributes:
        box: (4,) float32, left, top, right, bottom of the landmarks, image pixels.
        landmarks: (478, 3) float32, image pixels (edge convention; z in pixels, growing away from the camera).
        presence: the landmark network's confidence, [0, 1].
        blendshapes: (52,) float32 in [0, 1], in the order of `landmarks.BLENDSHAPE_NAMES`.
    """

    box: Box
    landmarks: npt.NDArray[np.float32]
    presence: float
    blendshapes: Blendshapes

    @property
    def area(self) -> float:
        """Area of the box, square pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    def blendshape(self, name: str) -> float:
        """One blendshape weight by its ARKit name, e.g. `jawOpen`."""
        return float(self.blendshapes[BLENDSHAPE_NAMES.index(name)])


class FaceAnalyzer:
    """Detects and tracks human faces. Not thread-safe; make one analyzer per thread.

    Args:
        threads: threads the networks may use.
        reject_animals: whether `detect` refuses animal faces.
    """

    def __init__(self, *, threads: int = 1, reject_animals: bool = True) -> None:
        task = weights.fetch("face_landmarker")
        full_range = weights.fetch("face_detection_full_range").read_bytes()
        self._short = BlazeFace.short_range(Network(task_member(task, "face_detector.tflite"), threads))
        self._full = BlazeFace.full_range(Network(full_range, threads))
        self._landmarks = LandmarkNet(
            Network(task_member(task, "face_landmarks_detector.tflite"), threads),
            Network(task_member(task, "face_blendshapes.tflite"), threads),
        )
        self._animals = AnimalCheck() if reject_animals else None

    def detect(self, image: Image, *, thorough: bool = True) -> list[Face]:
        """All human faces that the first successful stage of the cascade finds, largest first.

        Args:
            image: uint8 RGB (H, W, 3), any size.
            thorough: whether to also search rotated pictures and tiles if no upright face is found; that takes about
                0.2 s, too much for every video frame without a face.

        Raises:
            ShapeError: another kind of array.
        """
        return self._search(image, self._stages(image, thorough))[0]

    def require(self, image: Image, name: str = "the image") -> list[Face]:
        """Like `detect`, but raises if there is no human face.

        Raises:
            FaceError: no face, or only animals' faces; the message contains `name`.
        """
        faces, animal_seen = self._search(image, self._stages(image, True))
        if faces:
            return faces
        height, width = image.shape[:2]
        if animal_seen:
            raise FaceError(
                f"Expected a human face in {name}, found an animal's.",
                fix="Take a photograph, painting, statue or drawing of a person.",
            )
        raise FaceError(
            f"Expected a human face in {name} ({width} x {height}), found none.",
            fix="Take a picture in which a face is well visible, not in profile, at least 32 pixels wide.",
        )

    def track(self, image: Image, previous: Face) -> Face | None:
        """Track the face of the previous frame: from its landmarks, or, if that fails, by a quick detection around its
        position and then in the whole image.

        Args:
            image: uint8 RGB (H, W, 3), the next frame.
            previous: the face in the frame before.

        Returns:
            The face; after a new detection the one nearest to the previous position. None if there is no face.
        """
        check_image(image)
        face = self._refine(image, region_of(previous.landmarks))
        if face is not None:
            return face
        center = (previous.box[:2] + previous.box[2:]) / 2
        around = Region(float(center[0]), float(center[1]), 2.5 * region_of(previous.landmarks).side)
        stages = chain([self._look(image, around)], self._stages(image, False))
        found, _ = self._search(image, stages)
        return min(found, key=lambda f: float(np.linalg.norm((f.box[:2] + f.box[2:]) / 2 - center)), default=None)

    def certainty(self, image: Image, region: Region) -> float:
        """Confidence of the two detectors that a rotated region shows an upright face: the sum of their best scores, 0
        to 2.

        Args:
            image: uint8 RGB (H, W, 3).
            region: where to look.
        """
        best = (
            max((found.score for found in detector.detect(image, region, 0.3)), default=0.0)
            for detector in (self._short, self._full)
        )
        return float(sum(best))

    def _search(self, image: Image, stages: Iterable[list[Detection]]) -> tuple[list[Face], bool]:
        """Human faces, largest first, and whether only an animal's face was found."""
        faces: list[Face] = []
        animals: list[Box] = []
        for candidates in stages:
            for detection in candidates:
                if any(_contains(box, detection.center) for box in [*animals, *(face.box for face in faces)]):
                    continue  # a face that another detector or an earlier stage has found already
                face = self._refine(image, detection.region(), fresh=True)
                if face is None or any(_overlap(face.box, other.box) > _SAME_FACE for other in faces):
                    continue
                if self._animals and self._animals.is_animal(image, region_of(face.landmarks, 1.0)):
                    animals.append(face.box)
                else:
                    faces.append(face)
            if faces:
                break
        return sorted(faces, key=lambda face: -face.area), bool(animals) and not faces

    def _look(self, image: Image, region: Region) -> list[Detection]:
        """Candidates of both detectors in a region."""
        return self._short.detect(image, region, 0.5) + self._full.detect(image, region, 0.5)

    def _stages(self, image: Image, thorough: bool) -> Iterator[list[Detection]]:
        """Candidates of each stage of the cascade, best first, computed lazily."""
        check_image(image)
        height, width = image.shape[:2]
        side = float(max(height, width))
        whole = Region(width / 2, height / 2, side)
        yield self._look(image, whole)
        wide = Region(width / 2, height / 2, side * 1.8)
        yield self._short.detect(image, wide, 0.5)
        if not thorough:
            return
        turned = [Region(width / 2, height / 2, side * 1.1, angle) for angle in (pi / 2, -pi / 2, pi)]
        yield [found for region in turned for found in self._short.detect(image, region, 0.5)]
        for zoom in (2, 4):
            if side / zoom >= 160:
                tiles = _tiles(width, height, side / zoom)
                found = [hit for tile in tiles for hit in self._full.detect(image, tile, 0.6)]
                yield sorted(found, key=lambda detection: -detection.score)

    def _refine(self, image: Image, region: Region, *, fresh: bool = False) -> Face | None:
        """Landmarks in a region, computed again if they are off its centre."""
        for attempt in range(2):
            if region.side < _SMALLEST_FACE:
                return None
            landmarks, presence = self._landmarks.locate(image, region)
            if presence < MIN_PRESENCE:
                return None
            better = region_of(landmarks)
            offset = np.hypot(better.x - region.x, better.y - region.y) / region.side
            if attempt == 0 and not fresh and max(offset, abs(better.side / region.side - 1)) < _MOVED:
                break
            region = better
        points = landmarks[:MESH_COUNT, :2]
        box = np.concatenate([points.min(0), points.max(0)])
        return Face(box, landmarks, presence, self._landmarks.blendshapes(landmarks))


def pick_face(faces: Sequence[Face], number: int | None) -> Face | None:
    """Select one of the faces of `FaceAnalyzer.detect`, largest first.

    Args:
        faces: of one image.
        number: counted from 1, from left to right; None takes the largest.

    Returns:
        None if there are fewer faces.
    """
    if number is None:
        return faces[0] if faces else None
    return from_left(faces)[number - 1] if number <= len(faces) else None


def from_left(faces: Sequence[Face]) -> list[Face]:
    """The faces of one image in the order in which users count them, from left to right."""
    return sorted(faces, key=lambda face: float(face.box[0] + face.box[2]))


def _tiles(width: int, height: int, side: float) -> list[Region]:
    """Squares that cover the image with half-side overlap, so that one of them contains the whole of a small face."""
    return [
        Region(x, y, side)
        for y in np.linspace(side / 2, max(height - side / 2, side / 2), max(round(2 * height / side) - 1, 1))
        for x in np.linspace(side / 2, max(width - side / 2, side / 2), max(round(2 * width / side) - 1, 1))
    ]


def _contains(box: Box, point: npt.NDArray[np.float64]) -> bool:
    return bool((box[:2] <= point).all() and (point <= box[2:]).all())


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    shared = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return float(shared / union) if union > 0 else 0.0
