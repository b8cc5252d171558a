"""Composite rendered heads over backgrounds: as square crops, or pasted into the whole image without a visible seam."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.errors import WeightsError
from megaportraits.faces.inpainting import push_pull
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import Crop, HeadPose
from megaportraits.ops.pictures import resize

Float = npt.NDArray[np.float32]

REACH = 1.4
"""Side of the region around a head crop that pasting back works on, in crop sides."""
_FADE = (0.8, 0.97)
"""Distances from the crop's centre, crop units, between which the rendered head fades into the image."""
_ANCHOR_ROWS = (0.35, 0.9)
"""Rows, crop units, between which the body's displacement falls to zero, so that it meets the body in the image."""
_ANCHOR_COLUMNS = (0.5, 0.92)
"""The same for columns: shoulders leave the crop at its sides as well as at its bottom."""
_HAIR_CM = (0.0, 0.0, 4.0)
"""Head point, cm, whose displacement all hair around the crop gets where there is no flow: between crown and
forehead."""
_BESIDE = (0.3, 0.6)
"""Horizontal distances from the head's centre, crop units, of the transition from chin and neck to hair."""
_TRUSTED = 0.9
"""Distance from the crop's centre, crop units, up to which a flow is used. Farther out the network saw no source."""
_MOST_MOVED = 0.6
"""The largest displacement that a flow may add to shift, zoom and roll, crop units."""
ANCHOR_RIM = (0.35, 0.02)
"""Distances from the window's border, crop units, between which every displacement falls to zero."""


@dataclass(frozen=True)
class Rendering:
    """A rendered head crop.

    Attributes:
        premultiplied: (S, S, 4) float32 in [0, 1], colours times alpha, and alpha. Straight colours are undefined
            where alpha is 0, so only premultiplied colours may be resampled.
        pose: the pose it was rendered with, crop coordinates.
        flow: (n, n, 3) float32, one entry for each cell of the crop: displacement (x, y, crop units) to the place in
            the source that shows the cell's content, and the fraction of the cell covered by the person, [0, 1]. None
            where the model has no source skip or predicts no alpha.

    Raises:
        WeightsError: a value is NaN or infinite; damaged weights or too low a precision are the usual causes.
    """

    premultiplied: Float
    pose: HeadPose
    flow: Float | None = None

    def __post_init__(self) -> None:
        numbers = (self.premultiplied, self.pose.rotation, self.pose.translation, self.pose.scale)
        flow = () if self.flow is None else (self.flow,)
        if not all(np.isfinite(array).all() for array in (*numbers, *flow)):
            raise WeightsError(
                "the network made a picture or a pose with NaN or infinite numbers",
                fix="Get the weights again, or run them in a higher precision.",
            )

    @property
    def size(self) -> int:
        """Side in pixels."""
        return int(self.premultiplied.shape[0])

    def resized(self, size: int) -> Float:
        """The premultiplied image at another size: Lanczos for enlarging, area averaging for shrinking."""
        if size == self.size:
            return self.premultiplied
        return _valid(resize(self.premultiplied, size, enlarge=cv2.INTER_LANCZOS4))


def straight(premultiplied: Float) -> UInt8:
    """Convert a premultiplied float (H, W, 4) image to straight uint8 RGBA, for files with transparency."""
    alpha = premultiplied[..., 3:]
    color = np.divide(premultiplied[..., :3], alpha, out=np.zeros_like(premultiplied[..., :3]), where=alpha > 1 / 512)
    return np.rint(np.clip(np.dstack([color, alpha]), 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Surroundings:
    """The person around the head crop, which the network does not see: mostly hair above the crop.

    Attributes:
        premultiplied: (n, n, 4) uint8, the person in a square around the head crop; colours times alpha, and alpha.
        pose: the person's pose there, in coordinates of the head crop.
        reach: side of the square, in crop sides.
    """

    premultiplied: UInt8
    pose: HeadPose
    reach: float = REACH


class Placement:
    """Geometry for pasting a head crop into an image, computed once per crop and used for every frame.

    Args:
        shape: (H, W) of the image.
        crop: the head crop, in pixels of the image; it may reach outside.
        reach: side of the region that pasting changes, in crop sides; `Surroundings.reach` where they are given.

    Attributes:
        window: the rows and columns of the image that pasting changes.
    """

    def __init__(self, shape: tuple[int, ...], crop: Crop, reach: float = 1.0) -> None:
        self._side = crop.side
        left, top, right, bottom = Crop(crop.center_x, crop.center_y, crop.side * reach).corners
        rows = slice(max(int(np.floor(top)), 0), max(min(int(np.ceil(bottom)), shape[0]), 0))
        columns = slice(max(int(np.floor(left)), 0), max(min(int(np.ceil(right)), shape[1]), 0))
        self.window = (rows, columns)
        x = (np.arange(columns.start, columns.stop) + 0.5 - crop.center_x) * (2 / crop.side)
        y = (np.arange(rows.start, rows.stop) + 0.5 - crop.center_y) * (2 / crop.side)
        self._x, self._y = (axis.astype(np.float32) for axis in np.meshgrid(x, y))
        distance = np.maximum(np.abs(self._x), np.abs(self._y))
        self._weight: Float = 1 - _smoothstep(distance, *_FADE)
        sides = _smoothstep(np.abs(self._x), *_ANCHOR_COLUMNS) * _smoothstep(self._y, 0.0, 0.5)
        self._anchored = np.maximum(_smoothstep(self._y, *_ANCHOR_ROWS), sides)
        if reach > 1:
            self._anchored = np.maximum(self._anchored, _smoothstep(distance, *(reach - rim for rim in ANCHOR_RIM)))

    def paste(
        self,
        picture: UInt8,
        plate: UInt8,
        rendering: Rendering,
        around: Surroundings | None = None,
        drawn: Float | None = None,
    ) -> UInt8:
        """Paste the rendered head into a copy of the image.

        Args:
            picture: (H, W, 3).
            plate: (h, w, 3) for `window`: the background plate behind the person.
            rendering: the rendered head crop.
            around: the person around the crop. Hair above the crop then moves with the head. The shoulders, which the
                driver's shift, zoom and roll displace, are warped so that they meet the image's own shoulders at the
                crop's lower and lateral borders. None: the head only fades into the image at the crop's border.
            drawn: (H, W) in [0, 1], coverage by rendered heads; updated in place with this head.
        """
        if around is None:
            layer, keep = self._sample(rendering, self._x, self._y), 1 - self._weight
        else:
            turn_x, turn_y = self._turned_away(rendering, around.pose)
            layer = self._sample(rendering, *self._led_back(rendering.pose, around.pose, turn_x, turn_y))
            x, y = self._carried_from(rendering, around.pose, turn_x, turn_y)
            # The network has not seen content from above the crop: hair and hats when the head moves down.
            seen = self._weight * (1 - _smoothstep(-y, *_FADE))
            carried = _remap(around.premultiplied, x / around.reach, y / around.reach)
            # The network has seen content from inside the crop: where its alpha is 0, the carried layer is hidden too.
            known = (1 - _smoothstep(np.maximum(np.abs(x), np.abs(y)), *_FADE)) * (1 - self._anchored)
            shown = np.rint(255 - known * (255 - layer[..., 3])).astype(np.uint8)
            carried = cv2.multiply(carried, cv2.merge([shown] * 4), scale=1 / 255)
            layer = cv2.blendLinear(layer, np.asarray(carried, np.uint8), seen, 1 - seen)
            keep = (1 - self._weight) * self._anchored
        result = picture.copy()
        behind = cv2.multiply(plate, cv2.merge([255 - layer[..., 3]] * 3), scale=1 / 255)
        driven = cv2.add(np.ascontiguousarray(layer[..., :3]), behind)
        under = np.ascontiguousarray(picture[self.window])
        result[self.window] = cv2.blendLinear(driven, under, 1 - keep, keep)
        if drawn is not None:
            covered = (1 - keep) * layer[..., 3] * np.float32(1 / 255)
            drawn[self.window] = np.maximum(drawn[self.window], covered)
        return result

    def _sample(self, rendering: Rendering, x: Float, y: Float) -> UInt8:
        """The rendering at crop coordinates, premultiplied uint8 (h, w, 4)."""
        # Resize to the image's resolution with a good filter first, then warp with bilinear interpolation.
        side = max(int(np.ceil(self._side)), 1)
        return _remap(_to_bytes(rendering.resized(side)), x, y)

    def _turned_away(self, rendering: Rendering, rest: HeadPose) -> tuple[Float | float, Float | float]:
        """The flow minus the displacement by shift, zoom and roll, crop units, at the window's points.

        This residual comes from yaw, pitch and the model's own motion of hair. It is smoothed, and its border values
        are extended beyond the crop, so that hair which crosses the crop's border stays connected.
        """
        if rendering.flow is None:
            return 0.0, 0.0
        n = rendering.flow.shape[0]
        e = (np.arange(n, dtype=np.float32) + 0.5) * 2 / n - 1
        x, y = np.meshgrid(e, e)
        known = (rendering.flow[..., 2] > 0.5) & (np.maximum(np.abs(x), np.abs(y)) < _TRUSTED)
        if not known.any():
            return 0.0, 0.0
        back_x, back_y = _moved(x, y, rendering.pose, rest)
        beyond = rendering.flow[..., :2] - np.dstack([back_x - x, back_y - y])
        filled = push_pull(np.clip(beyond, -_MOST_MOVED, _MOST_MOVED), known.astype(np.float32))
        smooth = cv2.GaussianBlur(filled, (0, 0), n / 24, borderType=cv2.BORDER_REPLICATE)
        column, row = (axis * np.float32(n / 2) + np.float32(n / 2 - 0.5) for axis in (self._x, self._y))
        turn = cv2.remap(smooth, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return turn[..., 0], turn[..., 1]

    def _led_back(
        self, pose: HeadPose, rest: HeadPose, turn_x: Float | float, turn_y: Float | float
    ) -> tuple[Float, Float]:
        """Sampling points in the rendering that undo the displacement of body and hair towards the crop's borders."""
        # Models trained on lifted photographs (`synth.lift`), such as nano, roll the shoulders with the head.
        x, y = _moved(self._x, self._y, rest, pose)
        # Only for hair beside the neck: below the face this term would stretch a turned head's chin to the trunk.
        beside = _smoothstep(np.abs(self._x - np.float32(pose.translation[0])), *_BESIDE)
        x, y = x - beside * turn_x, y - beside * turn_y
        return self._x + self._anchored * (x - self._x), self._y + self._anchored * (y - self._y)

    def _carried_from(
        self, rendering: Rendering, rest: HeadPose, turn_x: Float | float, turn_y: Float | float
    ) -> tuple[Float, Float]:
        """Sampling points in the source image for the person around the crop, moved with the head."""
        # Without a flow, all hair gets the displacement of one head point.
        pivot = _HAIR_CM if rendering.flow is None else (0.0, 0.0, 0.0)
        back_x, back_y = _moved(self._x, self._y, rendering.pose, rest, pivot)
        free = 1 - self._anchored
        return self._x + free * (back_x + turn_x - self._x), self._y + free * (back_y + turn_y - self._y)


def _moved(
    x: Float, y: Float, start: HeadPose, end: HeadPose, pivot: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> tuple[Float, Float]:
    """Map crop points of a head in pose `start` to pose `end` by shift, zoom and roll.

    The shift is that of the projected `pivot`, a head point in centimetres.
    """
    turned = end.rotation @ start.rotation.T
    angle = np.arctan2(turned[1, 0] - turned[0, 1], turned[0, 0] + turned[1, 1])
    zoom = end.scale / start.scale
    cosine, sine = np.float32(zoom * np.cos(angle)), np.float32(zoom * np.sin(angle))
    before, after = (pose.project(np.array([pivot]))[0].astype(np.float32) for pose in (start, end))
    dx, dy = x - before[0], y - before[1]
    # Angles are counter-clockwise, but crop coordinates are y down.
    return cosine * dx + sine * dy + after[0], cosine * dy - sine * dx + after[1]


def side_by_side(*squares: UInt8) -> UInt8:
    """Equal squares in a row.

    Args:
        squares: uint8 (N, N, 3) each.
    """
    return np.concatenate(squares, axis=1)


def _valid(premultiplied: npt.NDArray[np.generic]) -> Float:
    """Clamp the overshoot of sharp filters: alpha in [0, 1], colours in [0, alpha]."""
    picture: Float = premultiplied.astype(np.float32, copy=False)
    alpha = np.clip(picture[..., 3:], 0, 1)
    return np.concatenate([np.clip(picture[..., :3], 0, alpha), alpha], axis=-1)


def _remap(picture: UInt8, x: Float, y: Float) -> UInt8:
    """Sample a square image at crop coordinates (borders at -1 and 1). Border pixels are repeated outside."""
    half = np.float32(picture.shape[0] / 2)
    sampled = cv2.remap(
        picture,
        x * half + (half - 0.5),
        y * half + (half - 0.5),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(sampled, np.uint8)


def _to_bytes(premultiplied: Float) -> UInt8:
    return np.rint(premultiplied * 255).astype(np.uint8)


def _smoothstep(value: npt.NDArray[np.floating], low: float, high: float) -> Float:
    t = np.clip((value - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)
