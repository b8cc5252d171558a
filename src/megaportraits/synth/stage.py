"""Common parts of all synthetic heads: motion, placement of vertices, and the rendered frame.

The label of a frame is the pose of its *head*: a head vertex V appears exactly at `motion.pose.project(V)`. Below the
jaw the rotation fades into the body's, which turns about the same point of the neck.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megaportraits.data.codec import COORDS_SIZE
from megaportraits.ops.geometry import HEAD_CENTER, HEAD_HALF_CM, HeadPose
from megaportraits.ops.pictures import resize
from megaportraits.synth.blur import soften
from megaportraits.synth.raster import Bools, Floats, Fragments, Ints, rasterize

Doubles = npt.NDArray[np.float64]

FLIP_Y = np.array([1, -1, 1], np.float32)
"""Between y up and y down."""
NECK = np.array([0.0, -4.0, -1.0])
"""The point (head space, cm) about which head and body turn against each other."""
_HEAD_ABOVE, _BODY_BELOW = -7.0, -14.0  # y in cm between which the rotation fades
_SHEET_BACK_CM = 0.35  # offset of a sheet behind the mesh, for the z-buffer only


@dataclass(frozen=True)
class HeadMotion:
    """Motion of a head in one frame; the same for every identity of a motion group.

    Attributes:
        expression: (57,) coefficients, in the head model's order.
        gaze: (2,) yaw and pitch in degrees relative to the head.
        pose: of the head.
        body: (3, 3) rotation of the body; identity is upright.
    """

    expression: Floats
    gaze: Floats
    pose: HeadPose
    body: Doubles

    @staticmethod
    def about_neck(
        expression: Floats,
        gaze: npt.ArrayLike,
        rotation: Doubles,
        *,
        scale: float = 1.0,
        shift: npt.ArrayLike = (0.0, 0.0),
        body: Doubles | None = None,
    ) -> HeadMotion:
        """A motion whose head rotates about a fixed neck.

        Args:
            expression: (57,) coefficients.
            gaze: (2,) degrees.
            rotation: (3, 3) of the head.
            scale: 1 when the head fills a crop 32 cm wide.
            shift: (2,) crop units; where the neck lies relative to its place in a crop centred on an unturned head.
            body: (3, 3); None is upright.
        """
        body = np.eye(3) if body is None else body
        # The offset of the head centre from the neck is rotated with the body, so that an in-plane rotation of head and
        # body keeps the head in the crop.
        neck = (body @ (NECK - HEAD_CENTER))[:2] * [1, -1] * (scale / HEAD_HALF_CM) + np.asarray(shift)
        turned = (rotation @ NECK)[:2] * [1, -1] * (scale / HEAD_HALF_CM)
        return HeadMotion(expression, np.asarray(gaze, np.float32), HeadPose(rotation, neck - turned, scale), body)


def fading(points: npt.NDArray) -> Floats:
    """(N,) share of the head's rotation that points (N, 3) of head space follow: 1 on the head, 0 on the body."""
    share = np.clip((points[:, 1] - _BODY_BELOW) / (_HEAD_ABOVE - _BODY_BELOW), 0, 1).astype(np.float32)
    return share * share * (3 - 2 * share)


def place(points: npt.NDArray, share: Floats, motion: HeadMotion, body_rest: Doubles | None = None) -> Floats:
    """Place points of head space by a motion.

    Args:
        points: (N, 3) cm, with the expression applied, unturned.
        share: (N,) of `fading`.
        motion: the motion.
        body_rest: (3, 3) body orientation in head space at rest; a photograph's own head rotation, so that its
            body stays as it was photographed. None for a body that looks where the head looks.

    Returns:
        (N, 3) float32 crop coordinates x, y and depth.
    """
    pose = motion.pose
    head = pose.project(points)
    rotation = motion.body if body_rest is None else motion.body @ body_rest
    pinned = pose.project(NECK[None])[0]
    body = HeadPose(rotation, np.zeros(2), pose.scale)
    on_body = body.project(points) + (pinned - body.project(NECK[None])[0])
    return (on_body + share[:, None] * (head - on_body)).astype(np.float32)


def to_pixels(placed: Floats, size: int, held_back: slice | None = None) -> Floats:
    """Crop coordinates to pixel x, y and nearness of a picture of `size` pixels; `held_back` yields in the z-test."""
    pixels = placed.copy()
    pixels[:, :2] = (placed[:, :2] + 1) * (size / 2)
    if held_back is not None:
        pixels[held_back, 2] -= _SHEET_BACK_CM / HEAD_HALF_CM
    return pixels


def surface_map(
    canonical: Floats,
    placed: Floats,
    triangles: Ints,
    alpha: Floats,
    two_sided: Bools | None = None,
    held_back: slice | None = None,
) -> tuple[Floats, Bools]:
    """The coords member of a frame (`docs/conventions.md`), point-sampled at its own resolution.

    Args:
        canonical: (N, 3) cm, the neutral-expression, unturned points.
        placed: (N, 3) of `place`.
        triangles: (T, 3).
        alpha: (W, W) of the rendered frame; surface points with low alpha are invalid.
        two_sided: (T,) or None.
        held_back: vertices that yield in the z-test.

    Returns:
        coords (64, 64, 4) and valid (64, 64).
    """
    fragments = rasterize(to_pixels(placed, COORDS_SIZE, held_back), triangles, COORDS_SIZE, two_sided)
    values = np.concatenate([canonical * FLIP_Y / HEAD_HALF_CM, placed[:, 2:]], 1)
    solid = resize(alpha, COORDS_SIZE) > 0.5
    return fragments.interpolate(triangles, values.astype(np.float32)), fragments.covered() & solid


@dataclass(frozen=True)
class SynthFrame:
    """A rendered frame.

    Attributes:
        image: (S, S, 3) uint8 RGB, straight colours that continue beyond the matte.
        matte: (S, S) uint8.
        coords: (64, 64, 4) float32 or None.
        valid: (64, 64) bool or None.
        fragments: at the supersampled resolution, for checks of the geometry.
        placed: (N, 3) crop coordinates and depth of every vertex.
    """

    image: npt.NDArray[np.uint8]
    matte: npt.NDArray[np.uint8]
    coords: Floats | None
    valid: Bools | None
    fragments: Fragments
    placed: Floats


def develop(premultiplied: Floats, size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A supersampled premultiplied picture (W, W, 4) to straight colours (S, S, 3) and matte (S, S), uint8."""
    premultiplied = resize(premultiplied, size)
    alpha = np.clip(premultiplied[..., 3], 0, 1)
    colour = bleed(premultiplied[..., :3], premultiplied[..., 3])
    return np.round(colour.clip(0, 1) * 255).astype(np.uint8), np.round(alpha * 255).astype(np.uint8)


def bleed(premultiplied: Floats, alpha: Floats) -> Floats:
    """Straight colours that continue beyond the matte, so that composites have no fringe.

    Normalised blurs of increasing width are combined (push-pull): each fills pixels that the previous one left.
    """
    colour, known = premultiplied.copy(), alpha.copy()
    whole = np.dstack([premultiplied, alpha])
    for sigma in (1.0, 3.0, 9.0, 27.0):
        wide = soften(whole, sigma)
        # A blurred alpha of 1/8 is enough to trust; below, the next wider blur takes over smoothly.
        gain = np.clip(1 - known, 0, 1) / np.maximum(wide[..., 3], 0.125)
        colour += wide[..., :3] * gain[..., None]
        known += wide[..., 3] * gain
    return np.asarray(colour / np.maximum(known, 1e-4)[..., None], np.float32)
