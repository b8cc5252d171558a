"""Find the upright orientation of a picture from its faces.

Cameras write the orientation into the file, but editors and messengers drop it. The landmark network cannot decide: it
interprets half of the upside-down faces as upright, with high confidence. The two face detectors, applied to the same
region in four orientations, were most confident in the correct one in 299 of 300 trials (75 portraits in four
orientations).
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
"""Roll in degrees beyond which the picture, not the head, is assumed to be rotated."""
_CLEAR = 1.2
"""Minimum confidence of an upright face that is accepted without comparison; portraits had 1.6 to 2."""
_AROUND = 3.0
"""Side of the detectors' input region, relative to the face."""


def roll_of(face: Face) -> float:
    """The roll of a face in its picture, degrees, counter-clockwise for the viewer, -180 to 180."""
    return float(matrix_to_euler(fit_pose(face.landmarks).rotation)[2])


def find_upright(
    image: Image, faces: Sequence[Face], analyzer: FaceAnalyzer, *, thorough: bool = True
) -> tuple[int, list[Face]]:
    """Find the rotation that makes the largest face of a picture upright.

    Args:
        image: (H, W, 3) uint8.
        faces: all that `analyzer` finds in it, largest first; empty where it finds none.
        analyzer: finds faces in the turned picture, too.
        thorough: see `FaceAnalyzer.detect`.

    Returns:
        turns: quarter turns counter-clockwise as in `numpy.rot90`, 0 to 3; 0 if the picture is upright or no
            orientation is better.
        faces: those of the turned picture.
    """
    if not faces:
        # There is no face to compare with, so a face in a rotated picture needs a high confidence.
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
    """Whether to apply a rotation that changes the face's roll (degrees) from one value to another.

    A head that is tilted by up to 60 degrees is not rotated: any rotation would leave it tilted by 30 or more. If less
    is found after the rotation, the first face was a misinterpretation of another one.
    """
    return abs(after) < (ROLLED if abs(before) > ROLLED else 90 - ROLLED)


def _certainty(image: Image, face: Face, analyzer: FaceAnalyzer, turns: int = 0) -> float:
    """Confidence of the detectors in an upright face after a rotation of the picture, 0 to 2."""
    center = (face.box[:2] + face.box[2:]) / 2
    side = float(np.max(face.box[2:] - face.box[:2]))
    # Rotating the region clockwise is equal to rotating the picture counter-clockwise.
    return analyzer.certainty(image, Region(float(center[0]), float(center[1]), _AROUND * side, turns * pi / 2))
