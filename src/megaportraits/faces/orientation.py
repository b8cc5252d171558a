"""Which way up a picture lies, judged by the faces that it shows.

Cameras write the orientation into the file, but editors and messengers drop it. Landmarks do not tell: the landmark
network reads every second face that is upside down as an upright one, as certain as ever. The two face detectors, asked
for an upright face in the same region in four orientations, were the surest of the right one in 299 of 300 tries
(75 portraits in four orientations).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import numpy as np

from megaportraits.faces.detector import Face, FaceAnalyzer
from megaportraits.faces.networks import Image, Region
from megaportraits.faces.pose import fit_pose
from megaportraits.ops.geometry import matrix_to_euler

ROLLED = 60.0
"""Roll, degrees, beyond which a face is taken for one in a picture that lies on its side."""
_CLEAR = 1.2
"""The least certainty of an upright face that is believed without comparison; portraits had 1.6 to 2."""
_AROUND = 3.0
"""Side of the region that the detectors judge, in sides of the face."""


def roll_of(face: Face) -> float:
    """The roll of a face in its picture, degrees, counter-clockwise for the viewer, -180 to 180."""
    return float(matrix_to_euler(fit_pose(face.landmarks).rotation)[2])


def find_upright(
    image: Image, faces: Sequence[Face], analyzer: FaceAnalyzer, *, thorough: bool = True
) -> tuple[int, list[Face]]:
    """How a picture has to be turned for its largest face to be upright.

    Args:
        image: (H, W, 3) uint8.
        faces: all that `analyzer` finds in it, largest first; empty where it finds none.
        analyzer: finds faces in the turned picture, too.
        thorough: see `FaceAnalyzer.detect`.

    Returns:
        turns: quarter turns counter-clockwise as `numpy.rot90` counts them, 0 to 3; 0 where the picture is upright or
            no orientation is better.
        faces: those of the turned picture.
    """
    if not faces:
        # Nothing to compare with: a face that only a turned picture shows has to be a clear one.
        found = {turns: analyzer.detect(turned(image, turns), thorough=thorough) for turns in (1, 3, 2)}
        certain = {turns: _certainty(turned(image, turns), seen[0], analyzer) for turns, seen in found.items() if seen}
        best = max(certain, key=certain.__getitem__, default=0)
        return (best, found[best]) if certain.get(best, 0.0) > _CLEAR else (0, [])
    best = max(range(4), key=lambda turns: _certainty(image, faces[0], analyzer, turns))
    if best:
        seen = analyzer.detect(turned(image, best), thorough=thorough)
        if seen and _better(roll_of(faces[0]), roll_of(seen[0])):
            return best, seen
    return 0, list(faces)


def turned(image: Image, turns: int) -> Image:
    """A picture (H, W, ...) turned by quarters counter-clockwise."""
    return np.ascontiguousarray(np.rot90(image, turns)) if turns % 4 else image


def _better(before: float, after: float) -> bool:
    """Whether a turn that changes the face's roll (degrees) from one value to another is worth it.

    A head that is tilted by up to 60 degrees stays as the photographer took it, and any turn leaves it tilted by 30 or
    more. Where less is found after the turn, the face that was seen before it was a misreading of another one.
    """
    return abs(after) < (ROLLED if abs(before) > ROLLED else 90 - ROLLED)


def _certainty(image: Image, face: Face, analyzer: FaceAnalyzer, turns: int = 0) -> float:
    """How sure the detectors are of a face that is upright once the picture is turned, 0 to 2."""
    center = (face.box[:2] + face.box[2:]) / 2
    side = float(np.max(face.box[2:] - face.box[:2]))
    # A region turned clockwise sees the picture turned counter-clockwise.
    return analyzer.certainty(image, Region(float(center[0]), float(center[1]), _AROUND * side, turns * pi / 2))
