"""Which landmarks outline a face and its features, in the landmark network's numbering; sides are the subject's."""

from __future__ import annotations

from megaportraits.faces.landmarks import LEFT_IRIS, RIGHT_IRIS

# fmt: off
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
    149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
LIPS = (
    61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146,
)
"""Their outer edge, along the upper lip from the right corner to the left one and back along the lower."""
INNER_LIPS = (
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,
)
"""In the same order."""
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
"""From the outer corner along the upper lid to the inner one, and back along the lower."""
LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
RIGHT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
LEFT_BROW = (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
MIDLINE = (151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2, 18, 200, 199, 175)
"""From the forehead down the nose to the chin."""
RIGHT_SIDE = (108, 69, 98, 97, 129, 64, 48, 115, 220, 45, 50, 101, 205, 187, 117, 118, 36)
"""Forehead, wing of the nose, cheek."""
LEFT_SIDE = (337, 299, 327, 326, 358, 294, 278, 344, 440, 275, 280, 330, 425, 411, 346, 347, 266)
# fmt: on

FEATURES = (
    *RIGHT_EYE, *LEFT_EYE, *RIGHT_BROW, *LEFT_BROW, *LIPS, *INNER_LIPS, *MIDLINE, *RIGHT_SIDE, *LEFT_SIDE,
    RIGHT_IRIS, LEFT_IRIS,
)  # fmt: skip
"""Features that a frontal camera sees: most move with expression; the nose indicates head rotation.

The iris centres are the last two.
"""


def _across(loop: tuple[int, ...]) -> dict[int, int]:
    """The mirror image of a closed outline that starts at its right corner and has the left corner halfway."""
    half = len(loop) // 2
    return {point: loop[(half - i) % len(loop)] for i, point in enumerate(loop)}


_SIDES = zip(
    (*RIGHT_EYE, *RIGHT_BROW, *RIGHT_SIDE, RIGHT_IRIS), (*LEFT_EYE, *LEFT_BROW, *LEFT_SIDE, LEFT_IRIS), strict=True
)
_MIRROR = {a: b for right, left in _SIDES for a, b in ((right, left), (left, right))}
_MIRROR |= _across(LIPS) | _across(INNER_LIPS) | {point: point for point in MIDLINE}
MIRRORED = tuple(FEATURES.index(_MIRROR[point]) for point in FEATURES)
"""For each of `FEATURES` the index of its mirror image."""
