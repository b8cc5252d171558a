"""Fine detail of eyes and mouths, and visible teeth.

Pixel errors hardly penalise blur, and correlations of landmarks ignore the texture between landmarks. Detail is the
variance of the Laplacian at a fixed scale of the face, `DETAIL_PX_PER_CM`, so it does not depend on the image size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.evaluation.metrics.agreement import agreement
from megaportraits.faces.detector import Face
from megaportraits.faces.outlines import FACE_OVAL, INNER_LIPS, LEFT_EYE, LIPS, RIGHT_EYE
from megaportraits.faces.pose import fit_pose
from megaportraits.media.images import UInt8
from megaportraits.ops.pictures import resize

IRIS_DISTANCE_CM = 6.3
DETAIL_PX_PER_CM = 64 / IRIS_DISTANCE_CM
"""The scale at which detail is measured: the irises of a frontal face are 64 pixels apart."""
OPEN_EYE = 0.18
"""Ratio of height to width of an eye's opening from which the eye counts as open."""
TEETH_CM2 = 0.25
"""Area of visible teeth from which a driver frame counts as showing teeth, square centimetres."""
REGION_OF = {"detail_eyes": "eyes", "detail_mouth": "mouth", "corr_teeth": "mouth", "gain_teeth": "mouth"}
"""The metrics of `detail_metrics`, with the region of the face that each of them measures."""
_RIM_CM = 0.25
_MASK_SCALE = 4  # masks are drawn enlarged: the opening between lips can be narrower than a few pixels
_LEAST_TEETH = 0.1  # smallest standard deviation that counts as motion, square centimetres
_BRIGHT, _COLOURLESS = 0.6, 0.42  # fraction of the skin's luminance; range of the channels over the largest channel


def eye_detail(picture: UInt8, face: Face) -> float:
    """Variance of the Laplacian of both eyes, squared grey levels; NaN unless both are open.

    Args:
        picture: (H, W, 3) uint8 RGB.
        face: the face, in pixels of `picture`.
    """
    if min(_openness(face, eye) for eye in (RIGHT_EYE, LEFT_EYE)) < OPEN_EYE:
        return math.nan
    return _detail(picture, face, (RIGHT_EYE, LEFT_EYE))


def mouth_detail(picture: UInt8, face: Face) -> float:
    """Variance of the Laplacian inside the outer edge of the lips, squared grey levels; arguments as `eye_detail`."""
    return _detail(picture, face, (LIPS,))


def teeth_area(picture: UInt8, face: Face) -> float:
    """Area of visible teeth: bright and colourless pixels between the inner edges of the lips, square centimetres.

    Bright means brighter than 0.6 of the median luminance of the face. Arguments as for `eye_detail`.
    """
    pose = fit_pose(face.landmarks)
    small, points = _at_scale(picture, face, DETAIL_PX_PER_CM / pose.px_per_cm)
    inner = _mask(small, points, (INNER_LIPS,))
    if not inner.any():
        return 0.0
    colour = small.astype(np.float32)
    luminance = colour @ np.array([0.299, 0.587, 0.114], np.float32)
    skin = float(np.median(luminance[_mask(small, points, (FACE_OVAL,))]))
    chroma = (colour.max(-1) - colour.min(-1)) / np.maximum(colour.max(-1), 1)
    teeth = inner & (luminance > _BRIGHT * skin) & (chroma < _COLOURLESS)
    return float(teeth.sum() / DETAIL_PX_PER_CM**2)


def detail_metrics(
    pictures: Sequence[UInt8],
    faces: Sequence[Face | None],
    drivers: Sequence[tuple[UInt8, Face | None]],
    source: tuple[UInt8, Face],
) -> tuple[dict[str, float], dict[str, str], dict[str, int]]:
    """The detail metrics of a clip's outputs, reasons for NaN, and for each metric the frame that lowers it most.

    - `detail_eyes`: mean detail of open eyes, divided by that of the source photograph.
    - `detail_mouth`: mean detail of mouths in frames whose driver shows teeth, divided by that of the driver.
    - `corr_teeth` and `gain_teeth`: correlation and gain of the area of visible teeth with the driver's.

    A detail of 1 is as detailed as the reference.

    Args:
        pictures: the outputs.
        faces: the faces in the outputs, in their pixels; None where no face was found.
        drivers: the driver's frames, and the faces in them in their pixels.
        source: the photograph, and the face in it.
    """
    eyes = [math.nan if f is None else eye_detail(p, f) for p, f in zip(pictures, faces, strict=True)]
    reference = eye_detail(*source)
    shown = [math.nan if f is None else teeth_area(p, f) for p, f in drivers]
    made = [math.nan if f is None else teeth_area(p, f) for p, f in zip(pictures, faces, strict=True)]
    mouths, wanted = [], []
    for picture, face, driver, area in zip(pictures, faces, drivers, shown, strict=True):
        counts = face is not None and driver[1] is not None and area > TEETH_CM2
        mouths.append(mouth_detail(picture, face) if counts and face is not None else math.nan)
        wanted.append(mouth_detail(driver[0], driver[1]) if counts and driver[1] is not None else math.nan)
    follows = agreement(np.array(shown), np.array(made), least=_LEAST_TEETH, unit="cm2")
    metrics = {
        "detail_eyes": _ratio(eyes, [reference]),
        "detail_mouth": _ratio(mouths, wanted),
        "corr_teeth": follows.correlation,
        "gain_teeth": follows.gain,
    }
    reasons = dict.fromkeys(("corr_teeth", "gain_teeth"), follows.reason) if follows.reason else {}
    if math.isnan(metrics["detail_eyes"]):
        reasons["detail_eyes"] = "the source's eyes or all of the outputs' are closed or hidden"
    if math.isnan(metrics["detail_mouth"]):
        reasons["detail_mouth"] = "no driver frame shows teeth"
    with np.errstate(divide="ignore", invalid="ignore"):
        lacks = {
            "detail_eyes": -np.array(eyes),
            "detail_mouth": -np.array(mouths) / np.array(wanted),
            "corr_teeth": np.abs(np.array(made) - np.array(shown)),
            "gain_teeth": np.abs(np.array(made) - np.array(shown)),
        }
    worst = {
        name: int(np.nanargmax(values))
        for name, values in lacks.items()
        if math.isfinite(metrics[name]) and np.isfinite(values).any()
    }
    return metrics, reasons, worst


def _ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    mine, theirs = (np.array(x, np.float64) for x in (values, reference))
    mine, theirs = mine[np.isfinite(mine)], theirs[np.isfinite(theirs)]
    if not mine.size or not theirs.size or theirs.mean() <= 0:
        return math.nan
    return float(mine.mean() / theirs.mean())


def _openness(face: Face, eye: tuple[int, ...]) -> float:
    lids = face.landmarks[list(eye), :2]
    height = np.linalg.norm(lids[len(eye) // 4] - lids[-len(eye) // 4])
    return float(height / max(float(np.linalg.norm(lids[0] - lids[len(eye) // 2])), 1e-6))


def _detail(picture: UInt8, face: Face, outlines: tuple[tuple[int, ...], ...]) -> float:
    pose = fit_pose(face.landmarks)
    small, points = _at_scale(picture, face, DETAIL_PX_PER_CM / pose.px_per_cm)
    mask = _mask(small, points, outlines)
    side = 2 * round(_RIM_CM * DETAIL_PX_PER_CM) + 1
    mask = cv2.dilate(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0
    if not mask.any():
        return math.nan
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F)[mask].var())


def _at_scale(picture: UInt8, face: Face, scale: float) -> tuple[UInt8, npt.NDArray[np.float32]]:
    """Cut out and rescale the area around the face; returns it with the landmarks (478, 2) in its pixels."""
    points = face.landmarks[:, :2]
    margin = 0.15 * float(np.max(np.ptp(points, axis=0)))
    low = np.maximum(np.floor(points.min(0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(points.max(0) + margin).astype(int), (picture.shape[1], picture.shape[0]))
    high = np.maximum(high, low + 2)
    window = picture[low[1] : high[1], low[0] : high[0]]
    size = (max(2, round(float(high[0] - low[0]) * scale)), max(2, round(float(high[1] - low[1]) * scale)))
    small = resize(window, size)
    return small, ((points - low) * (np.array(size) / (high - low))).astype(np.float32)


def _mask(
    picture: UInt8, points: npt.NDArray[np.float32], outlines: tuple[tuple[int, ...], ...]
) -> npt.NDArray[np.bool_]:
    height, width = picture.shape[:2]
    mask = np.zeros((height * _MASK_SCALE, width * _MASK_SCALE), np.uint8)
    for outline in outlines:
        # In our coordinates pixel edges are integers; in fillPoly's, pixel centres. It also fills the outline.
        cv2.fillPoly(mask, [np.round(points[list(outline)] * _MASK_SCALE - 0.5).astype(np.int32)], 255)
    return resize(mask, (width, height)) > 127
