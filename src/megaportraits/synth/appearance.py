"""Estimate colours and light of a photograph for parts that it does not show: eyeballs, teeth, mouth."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.synth.head import REGIONS
from megaportraits.synth.raster import Floats, spherical_harmonics
from megaportraits.synth.shade import Light, Paint

_IRIS = (
    (473, (362, 385, 387, 263, 373, 380)),
    (468, (33, 160, 158, 133, 153, 144)),
)  # left, right; lid outlines
_INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_DEFAULT_IRIS = np.array([70, 50, 40], np.float32) / 255
_DEFAULT_SCLERA = np.array([170, 160, 155], np.float32) / 255
_LEAST_TEETH_PX, _LEAST_TEETH_VERTICES = 60, 80
_GREY_CHROMA = 5.0  # Lab units; colour portraits have 12 and more on the skin


def is_grey(image: npt.NDArray[np.uint8]) -> bool:
    """Whether a photograph (H, W, 3) is black and white, or evenly toned."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)[..., 1:]
    return bool(np.percentile(np.linalg.norm(lab - np.median(lab, (0, 1)), axis=-1), 90) < _GREY_CHROMA)


def fit_light(colours: Floats, normals: Floats) -> tuple[Light, Floats]:
    """Light and median colour of skin from its pixels, by robust least squares on four harmonics.

    Args:
        colours: (N, 3) in [0, 1].
        normals: (N, 3) in camera axes.

    Returns:
        The light, normalised to about 1 for a surface that faces the camera, and the skin colour (3,).
    """
    luminance = colours.mean(1)
    basis = spherical_harmonics(normals)[:, :4].astype(np.float64)
    weight = np.ones(len(basis))
    for _ in range(6):
        solution = np.linalg.lstsq(basis * weight[:, None], luminance * weight, rcond=None)[0]
        weight = 1 / (np.abs(luminance - basis @ solution) + 0.05)
    harmonics = np.zeros(9, np.float32)
    harmonics[:4] = solution / max(solution[0] + 0.9 * solution[2], 0.05)
    return Light(harmonics), np.median(colours, 0).astype(np.float32)


def eye_colours(rgb: npt.NDArray[np.uint8], landmarks: Floats) -> tuple[Floats, Floats]:
    """Iris (2, 3; left, right) and sclera (3,) colours in [0, 1] of a crop with landmarks (478, 2) in its pixels."""
    height, width = rgb.shape[:2]
    y, x = np.mgrid[0:height, 0:width] + 0.5
    irises, scleras = [], []
    for middle, lids in _IRIS:
        radius = float(np.linalg.norm(landmarks[middle + 1] - landmarks[middle + 3])) / 2
        distance = np.hypot(x - landmarks[middle, 0], y - landmarks[middle, 1])
        opening = np.zeros((height, width), np.uint8)
        cv2.fillPoly(opening, [np.round(landmarks[list(lids)]).astype(np.int32)], 1)
        ring = (opening > 0) & (distance > radius * 0.45) & (distance < radius * 0.85)
        white = (cv2.erode(opening, np.ones((2, 2), np.uint8)) > 0) & (distance > radius * 1.15)
        irises.append(np.median(rgb[ring], 0) / 255 if ring.sum() > 2 else None)
        if white.sum() > 2:
            scleras.append(np.percentile(rgb[white], 75, axis=0) / 255)
    found = [iris for iris in irises if iris is not None]
    other = np.mean(found, 0) if found else _DEFAULT_IRIS
    # The two irises of a person are similar; a single different one is usually a reflection or a shadow.
    iris = np.stack([other if one is None else 0.5 * one + 0.5 * other for one in irises]).astype(np.float32)
    sclera = np.clip(np.mean(scleras, 0) if scleras else _DEFAULT_SCLERA, 0.3, 0.9).astype(np.float32)
    return iris, np.maximum(sclera, iris.mean(0) + 0.15)


def mouth_opening(landmarks: Floats, size: int) -> npt.NDArray[np.uint8]:
    """(size, size) 1 between the inner lips."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(landmarks[list(_INNER_LIPS)]).astype(np.int32)], 1)
    return mask


def tooth_colour(rgb: npt.NDArray[np.uint8], landmarks: Floats, skin: Floats, sclera: Floats) -> Floats:
    """Colour (3,) of the teeth: of bright, colourless pixels in an open mouth, otherwise estimated from the skin."""
    # The sclera indicates the colour of the light.
    tint = 0.5 * np.array([1.05, 1.01, 0.94]) + 0.5 * sclera / max(float(sclera.mean()), 1e-3)
    guess = np.clip(tint * (0.25 + 0.75 * skin.mean()) * 0.8, 0, 0.9)
    shown = rgb[mouth_opening(landmarks, rgb.shape[0]) > 0].astype(np.float32) / 255
    if len(shown) > 25 and np.linalg.norm(landmarks[13] - landmarks[14]) > 4:
        brightness = shown.mean(1)
        bright = shown[brightness > np.percentile(brightness, 60)].mean(0)
        if bright.mean() > 0.45 and bright[2] / bright[0] > 0.62:
            guess = 0.5 * guess + 0.5 * bright
    return guess.astype(np.float32)


def project_teeth(
    paint: Paint, rgb: npt.NDArray[np.uint8], landmarks: Floats, camera: Floats, occluded: Floats
) -> None:
    """Set the colours of the model's teeth to those of an open smile, in place.

    Args:
        paint: its vertex colours are changed; hidden teeth get the mean of the visible ones.
        rgb: the lift crop.
        landmarks: (478, 2) pixels in it.
        camera: (26719, 3) pixels of the vertices in the photograph.
        occluded: (26719,) `shade.occlusion` there, which rendering will apply again.
    """
    opening = mouth_opening(landmarks, rgb.shape[0])
    inside = cv2.erode(opening, np.ones((3, 3), np.uint8)) > 0
    if inside.sum() < _LEAST_TEETH_PX:
        return
    shown = rgb[inside].astype(np.float32) / 255
    bright = np.percentile(shown.mean(1), 85)
    teeth = REGIONS["teeth"]
    cell = np.clip(camera[teeth, :2].astype(int), 0, rgb.shape[0] - 1)
    colours = rgb[cell[:, 1], cell[:, 0]].astype(np.float32) / 255
    # Lips and gums are red, gaps are dark; the remaining pixels are teeth.
    is_tooth = inside[cell[:, 1], cell[:, 0]] & (colours.mean(1) > 0.65 * bright)
    is_tooth &= colours[:, 2] > 0.6 * colours[:, 0]
    if bright < 0.35 or is_tooth.sum() < _LEAST_TEETH_VERTICES:
        return
    own = np.clip(colours / np.maximum(occluded[teeth], 0.5)[:, None], 0, 1)
    paint.vertex[teeth] = np.where(is_tooth[:, None], own, own[is_tooth].mean(0))


def make_paint(rgb: npt.NDArray[np.uint8], landmarks: Floats, skin: Floats, vertices: int, grey: bool) -> Paint:
    """Colours of all unphotographed parts; without hue when the photograph has none."""
    iris, sclera = eye_colours(rgb, landmarks)
    gums = np.clip(skin * np.array([0.85, 0.55, 0.55]), 0, 1)
    colours = np.zeros((vertices, 3), np.float32)
    colours[REGIONS["teeth"]] = tooth_colour(rgb, landmarks, skin, sclera)
    colours[REGIONS["gums"]] = gums
    colours[REGIONS["mouth_socket"]] = gums * [0.45, 0.40, 0.40]
    if grey:
        tone = skin / max(float(skin.mean()), 1e-3)  # sepia stays sepia
        colours = colours.mean(1, keepdims=True) * tone
        iris, sclera = iris.mean(1, keepdims=True) * tone, sclera.mean() * tone
    return Paint(iris.astype(np.float32), np.asarray(sclera, np.float32), colours.astype(np.float32))
