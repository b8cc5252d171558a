"""Region masks of a head crop (face, ears, hair, rest of the person) from landmarks, pose, matte and colours.

No face-parsing network is available from a package index, so this uses geometry and colour models: the face is the
outline of the landmarks, the ears are those of ICT-FaceKit at the fitted pose, and hair is the region connected to the
top of the skull whose colours are closer to hair than to skin or clothes.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.faces.networks import Image
from megaportraits.faces.outlines import FACE_OVAL
from megaportraits.faces.regions import hull_mask
from megaportraits.ops.geometry import HeadPose

Mask = npt.NDArray[np.bool_]
ColorModel = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Median and spread of Lab colours."""

NOTHING, FACE, EARS, HAIR, BODY = range(5)
_EAR_CENTER, _EAR_RADII = np.array([8.2, 1.6, -0.6]), np.array([1.1, 3.2, 1.9])
"""Of ICT-FaceKit's left ear, centimetres, head axes (`docs/conventions.md`)."""
_SKULL_CENTER, _SKULL_RADII = np.array([0.0, 5.0, -1.0]), np.array([9.5, 11.5, 11.0])
_TURNED_AWAY = -0.25
"""Smallest z of an ear's outward direction at which the ear is visible; the head hides ears turned further away."""
_SEED_MARGIN_CM = 1.0
_BALD = 0.8
"""Squared distance to the face's colours, below which the top of the skull counts as skin: a bald head."""


def region_mask(
    image: Image, matte: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.floating], pose: HeadPose
) -> npt.NDArray[np.uint8]:
    """Labels (n, n) uint8: 0 nothing, 1 face, 2 ears, 3 hair, 4 the rest of the person (neck, shoulders, clothes).

    Args:
        image: (n, n, 3) the crop.
        matte: (n, n) its alpha.
        landmarks: (478, 2 or more) in crop units.
        pose: of the head in the crop.
    """
    size = image.shape[0]
    person = matte > 127
    face = hull_mask((landmarks[list(FACE_OVAL), :2] + 1) * (size / 2), size)
    ears = np.zeros_like(face)
    for side in (1.0, -1.0):
        out = pose.rotation @ np.array([side, 0.0, 0.0])
        if out[2] > _TURNED_AWAY:
            ears |= _ellipsoid(pose, _EAR_CENTER * (side, 1, 1), _EAR_RADII, size)
    skull = _ellipsoid(pose, _SKULL_CENTER, _SKULL_RADII, size)
    forehead, hair = _hair(image, person, face, ears, skull, landmarks, pose)
    labels = np.where(person, BODY, NOTHING).astype(np.uint8)
    labels[forehead] = FACE
    labels[hair] = HAIR
    labels[ears & person & ~hair] = EARS
    labels[face] = FACE
    return labels


def _hair(
    image: Image,
    person: Mask,
    face: Mask,
    ears: Mask,
    skull: Mask,
    landmarks: npt.NDArray[np.floating],
    pose: HeadPose,
) -> tuple[Mask, Mask]:
    """Masks of the forehead (or bald skull), and of the hair: top of the skull and similar colours connected to it."""
    size = image.shape[0]
    px_per_cm = pose.scale * size / 32
    rows = (np.arange(size) + 0.5)[:, None] * (2 / size) - 1
    above = person & ~face & skull & (rows < float(landmarks[[105, 334], 1].mean()))
    near_face = cv2.dilate(face.astype(np.uint8), _disc(px_per_cm * _SEED_MARGIN_CM)) > 0
    seeds = above & ~near_face
    colors = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    hair_model, face_model = _color_model(colors, seeds), _color_model(colors, face)
    if hair_model is None or (face_model is not None and _gap(hair_model, face_model) < _BALD):
        return above, np.zeros_like(person)
    lowest = person & (rows > float(landmarks[152, 1]) + 4 * px_per_cm * 2 / size)
    likeness = _distance(colors, hair_model)
    looks = np.ones_like(person)
    for model in (face_model, _color_model(colors, lowest)):
        if model is not None:
            looks &= likeness < _distance(colors, model)
    candidates = (person & ~face & looks) | seeds
    opened = cv2.morphologyEx(candidates.astype(np.uint8), cv2.MORPH_OPEN, _disc(px_per_cm * 0.3))
    _, parts = cv2.connectedComponents(opened | seeds.astype(np.uint8), connectivity=4)
    touching = np.unique(parts[seeds])
    hair = np.isin(parts, touching[touching > 0]) & person & ~face
    return above & ~hair, hair & ~(ears & ~looks)


def _gap(a: ColorModel, b: ColorModel) -> float:
    """Squared distance of two colours in units of their spreads."""
    return float((np.square(a[0] - b[0]) / (a[1] * b[1])).sum())


def _color_model(
    colors: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray, npt.NDArray] | None:
    """Median and spread of the colours under a mask; None for too few pixels."""
    values = colors[mask]
    if len(values) < 12:
        return None
    center = np.median(values, 0)
    spread = np.median(np.abs(values - center), 0) * 1.48 + 6
    return center, spread


def _distance(colors: npt.NDArray[np.float32], model: ColorModel) -> npt.NDArray[np.float32]:
    return np.square((colors - model[0]) / model[1]).sum(-1)


def _ellipsoid(pose: HeadPose, center: npt.NDArray, radii: npt.NDArray, size: int) -> npt.NDArray[np.bool_]:
    """The pixels that an ellipsoid with the head's axes covers under its orthographic camera."""
    # The outline of R diag(r) applied to the unit sphere is the image of a circle under the 2 x 2 root of its product.
    to_pixels = pose.scale * size / 32
    linear = (pose.rotation @ np.diag(radii))[:2] * np.array([[1.0], [-1.0]]) * to_pixels
    middle = (pose.rotation @ center)[:2] * (1, -1) * to_pixels + (pose.translation + 1) * (size / 2)
    shape = np.linalg.inv(linear @ linear.T)
    y, x = np.mgrid[:size, :size] + 0.5
    dx, dy = x - middle[0], y - middle[1]
    return np.asarray(shape[0, 0] * dx * dx + 2 * shape[0, 1] * dx * dy + shape[1, 1] * dy * dy <= 1)


def _disc(radius: float) -> npt.NDArray[np.uint8]:
    side = 2 * max(round(radius), 1) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
