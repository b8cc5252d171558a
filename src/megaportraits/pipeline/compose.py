"""Driven heads onto their backgrounds: squares, and back into the whole picture without a visible cut."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.faces.crop import Crop
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HeadPose

Float = npt.NDArray[np.float32]

_FADE = (0.03, 0.17)
"""Distances from the crop's border, crop units, over which the picture fades into the driven head."""
_ANCHOR_ROWS = (0.35, 0.9)
"""Rows of the crop, crop units, over which a moved body is led back to where the picture shows it."""
_ANCHOR_COLUMNS = (0.5, 0.92)
"""The same for columns: shoulders leave the crop at its sides as well as at its bottom."""


@dataclass(frozen=True)
class Rendering:
    """A driven head crop.

    Attributes:
        premultiplied: (S, S, 4) float32 in [0, 1], colours times alpha, and alpha. Colours behind alpha = 0
            mean nothing, so that only premultiplied ones may be resampled.
        pose: the pose it was rendered with, crop coordinates.
    """

    premultiplied: Float
    pose: HeadPose

    @property
    def size(self) -> int:
        """Side in pixels."""
        return int(self.premultiplied.shape[0])

    def resized(self, size: int) -> Float:
        """The premultiplied picture at another size: Lanczos when it grows, averaged when it shrinks."""
        if size == self.size:
            return self.premultiplied
        how = cv2.INTER_LANCZOS4 if size > self.size else cv2.INTER_AREA
        return _valid(cv2.resize(self.premultiplied, (size, size), interpolation=how))


def over(premultiplied: Float, background: npt.NDArray[np.generic]) -> UInt8:
    """A premultiplied (H, W, 4) picture over a uint8 background (H, W, 3), or one that broadcasts to it."""
    under = background.astype(np.float32) * (1 - premultiplied[..., 3:])
    return np.rint(np.clip(premultiplied[..., :3] * 255 + under, 0, 255)).astype(np.uint8)


def straight(premultiplied: Float) -> UInt8:
    """A premultiplied float (H, W, 4) picture as straight uint8 RGBA, for files with transparency."""
    alpha = premultiplied[..., 3:]
    color = np.divide(premultiplied[..., :3], alpha, out=np.zeros_like(premultiplied[..., :3]), where=alpha > 1 / 512)
    return np.rint(np.clip(np.dstack([color, alpha]), 0, 1) * 255).astype(np.uint8)


class Placement:
    """Where a head crop lies in a picture: geometry that is computed once per crop and used for every frame.

    Args:
        shape: (H, W) of the picture.
        crop: the head crop, in pixels of the picture; it may reach outside.

    Attributes:
        window: the rows and columns of the picture that the crop touches.
    """

    def __init__(self, shape: tuple[int, ...], crop: Crop) -> None:
        left, top, right, bottom = crop.corners
        rows = slice(max(int(np.floor(top)), 0), max(min(int(np.ceil(bottom)), shape[0]), 0))
        columns = slice(max(int(np.floor(left)), 0), max(min(int(np.ceil(right)), shape[1]), 0))
        self.window = (rows, columns)
        self._side = crop.side
        x = (np.arange(columns.start, columns.stop) + 0.5 - crop.center_x) * (2 / crop.side)
        y = (np.arange(rows.start, rows.stop) + 0.5 - crop.center_y) * (2 / crop.side)
        self._x, self._y = (axis.astype(np.float32) for axis in np.meshgrid(x, y))
        border = 1 - np.maximum(np.abs(self._x), np.abs(self._y))
        self.weight: Float = _smoothstep(border, *_FADE)[..., None]
        sides = _smoothstep(np.abs(self._x), *_ANCHOR_COLUMNS) * _smoothstep(self._y, 0.0, 0.5)
        self._anchored = np.maximum(_smoothstep(self._y, *_ANCHOR_ROWS), sides)

    def resample(self, rendering: Rendering, rest: HeadPose | None = None) -> Float:
        """The rendering's pixels for the window, premultiplied (h, w, 4).

        Args:
            rendering: the driven head crop.
            rest: the pose of the body in the picture around the crop. Shoulders that the driver's shift and
                zoom have moved are led back to it towards the crop's lower and lateral borders, where they
                must meet the picture's own. None leaves them where they are.
        """
        x, y = self._x, self._y
        if rest is not None:
            zoom = rendering.pose.scale / rest.scale
            shift = rendering.pose.translation - zoom * np.asarray(rest.translation)
            x = x + self._anchored * ((zoom - 1) * x + np.float32(shift[0]))
            y = y + self._anchored * ((zoom - 1) * y + np.float32(shift[1]))
        side = min(rendering.size, max(int(np.ceil(self._side)), 1))  # shrinking needs averaging first
        picture = rendering.resized(side)
        half = side / 2
        return _valid(
            cv2.remap(
                picture,
                (x * half + (half - 0.5)).astype(np.float32),
                (y * half + (half - 0.5)).astype(np.float32),
                cv2.INTER_LANCZOS4,
                borderMode=cv2.BORDER_REPLICATE,
            )
        )

    def paste(self, picture: UInt8, plate: UInt8, rendering: Rendering, rest: HeadPose | None = None) -> UInt8:
        """A copy of the picture with the driven head in place.

        Args:
            picture: (H, W, 3), kept outside the crop and faded into at its border.
            plate: (h, w, 3) for `window`: what stands behind the person.
            rendering: the driven head crop.
            rest: see `resample`.
        """
        result = picture.copy()
        under = picture[self.window].astype(np.float32)
        layer = self.resample(rendering, rest)
        driven = layer[..., :3] * 255 + plate * (1 - layer[..., 3:])
        mixed = under + self.weight * (driven - under)
        result[self.window] = np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)
        return result


def side_by_side(*squares: UInt8) -> UInt8:
    """Equal squares in a row.

    Args:
        squares: uint8 (N, N, 3) each.
    """
    return np.concatenate(squares, axis=1)


def _valid(premultiplied: npt.NDArray[np.generic]) -> Float:
    """Undo the overshoot of sharp filters: alpha in [0, 1], colours in [0, alpha]."""
    picture: Float = premultiplied.astype(np.float32, copy=False)
    alpha = np.clip(picture[..., 3:], 0, 1)
    return np.concatenate([np.clip(picture[..., :3], 0, alpha), alpha], axis=-1)


def _smoothstep(value: npt.NDArray[np.floating], low: float, high: float) -> Float:
    t = np.clip((value - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)
