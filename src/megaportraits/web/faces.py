"""Draw numbered boxes around the faces of a photograph, so that a visitor can choose one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from megaportraits.faces.detector import Face, from_left
from megaportraits.media.images import UInt8
from megaportraits.ops.pictures import resize

_LONGEST_SIDE = 1024
_WHITE, _BLUE = (255, 255, 255), (37, 99, 235)
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class NumberedFaces:
    """Result of `number_faces`.

    Attributes:
        picture: (H, W, 3) uint8, the photograph, at most 1024 pixels wide and high, with a box around every face.
        boxes: left, top, right, bottom of every face in pixels of `picture`, from left to right.
        largest: the number, from 1, of the default face.
    """

    picture: UInt8
    boxes: list[Box]
    largest: int

    def at(self, x: float, y: float) -> int | None:
        """The number of the face at a point of `picture`, pixels; None if there is none."""
        for number, (left, top, right, bottom) in enumerate(self.boxes, 1):
            if left <= x < right and top <= y < bottom:
                return number
        return None


def number_faces(photo: UInt8, faces: Sequence[Face]) -> NumberedFaces:
    """Draw numbered boxes around the faces of a photograph.

    Args:
        photo: (H, W, 3).
        faces: all of them, largest first, as `FaceAnalyzer` gives them; at least one.
    """
    ordered = from_left(faces)
    factor = min(1.0, _LONGEST_SIDE / max(photo.shape[:2]))
    size = (max(1, round(photo.shape[1] * factor)), max(1, round(photo.shape[0] * factor)))
    picture = resize(photo, size).copy()
    boxes = [_box(face, factor) for face in ordered]
    for number, box in enumerate(boxes, 1):
        _draw(picture, box, str(number))
    largest = next(number for number, face in enumerate(ordered, 1) if face is faces[0])
    return NumberedFaces(picture, boxes, largest)


def _box(face: Face, factor: float) -> Box:
    left, top, right, bottom = (round(float(edge) * factor) for edge in face.box)
    return left, top, right, bottom


def _draw(picture: UInt8, box: Box, text: str) -> None:
    """A box with its number in the upper left corner; sizes depend on the picture's."""
    thick = max(2, max(picture.shape[:2]) // 250)
    scale = max(picture.shape[:2]) / 900
    cv2.rectangle(picture, box[:2], box[2:], _WHITE, 2 * thick)
    cv2.rectangle(picture, box[:2], box[2:], _BLUE, thick)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    margin = 3 * thick
    left, top = max(box[0], 0), max(box[1], 0)
    cv2.rectangle(picture, (left, top), (left + width + 2 * margin, top + height + 2 * margin), _BLUE, cv2.FILLED)
    at = (left + margin, top + height + margin)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, _WHITE, thick, cv2.LINE_AA)
