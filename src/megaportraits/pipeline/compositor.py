"""What stands around a driven head: the photo, the driver's scene, a flat colour or nothing."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.faces.crop import extract, paste
from megaportraits.faces.inpainting import Fill, background_plate, smooth_fill
from megaportraits.faces.matting import Matting, foreground
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import Crop, HeadPose
from megaportraits.pipeline.compose import ANCHOR_RIM, REACH, Placement, Rendering, Surroundings, over, straight
from megaportraits.pipeline.driver import DriverFrame, HeadView
from megaportraits.pipeline.options import AnimateOptions, Background
from megaportraits.pipeline.portrait import PreparedSource, SourceHead, person_matte, shrink, source_view

_TALL_REACH = 2.0
"""`REACH` for hats, top knots and big hair that rise beyond it."""
_LARGEST_SURROUNDINGS = 768
_LARGEST_DRIVER = 360
"""Sides at which a photo's surroundings, once, and a driver's, in every frame, are worked out at most."""
_TRUNK = (0.45, 0.85)
"""Rows of the head crop, crop units, between which the driver's neck and shoulders begin to stay."""
_UNDER_TRANSPARENT = (255, 255, 255)
"""Behind transparent heads where a file cannot be transparent."""


class Compositor:
    """Composites one animation's frames.

    Args:
        portrait: the source.
        options: background, sizes, crop or whole picture.
        matting: for the driver's scene.
        rest: the source's pose in its own head crop.
        size: side of the head crop, pixels.
        fill: paints what stands behind heads.

    Attributes:
        photo: (H, W, 3), the whole picture at the size of the result; only where heads go back into it.
    """

    def __init__(
        self,
        portrait: PreparedSource,
        options: AnimateOptions,
        matting: Matting,
        rest: HeadPose,
        *,
        size: int,
        fill: Fill = smooth_fill,
    ) -> None:
        self._options = options
        self._matting, self._fill = matting, fill
        self._last: HeadView | None = None
        self._size = size
        self._plate = _resize(portrait.plate, size)
        if options.background is Background.SOURCE and not options.crop_only:
            self._prepare_photo(portrait.head, rest)

    def compose(self, rendering: Rendering, view: DriverFrame) -> tuple[UInt8, UInt8, UInt8 | None]:
        """The result, its head crop alone, and the driver's head crop."""
        options = self._options
        head = rendering.resized(self._size)
        driver = self._driver_square(view)
        if options.background is Background.DRIVER:
            return self._in_driver(rendering, head, view, driver)
        square = over(head, self._square_background())
        if options.transparent:
            return straight(head), square, driver
        if options.crop_only:
            return square, square, driver
        pasted = self._placement.paste(self.photo, self._behind, rendering, self._around)
        return pasted, square, driver

    def paste(self, picture: UInt8, rendering: Rendering, drawn: npt.NDArray[np.float32]) -> UInt8:
        """A copy of the photo in which others may have been moved already, with this person moved as well.

        Args:
            picture: (H, W, 3), of the size of `photo`.
            rendering: the driven head crop.
            drawn: (H, W), where heads have been drawn already, [0, 1]: they stay where this person moves away.
        """
        filled, gone = self._removal
        gone = gone * (1 - drawn[self._placement.window])
        behind = cv2.blendLinear(np.ascontiguousarray(picture[self._placement.window]), filled, 1 - gone, gone)
        return self._placement.paste(picture, np.asarray(behind, np.uint8), rendering, self._around, drawn)

    def squares(self, rendering: Rendering, view: DriverFrame) -> tuple[UInt8, UInt8 | None]:
        """The head crop alone, and the driver's head crop."""
        square = over(rendering.resized(self._size), self._square_background())
        return square, self._driver_square(view)

    def _driver_square(self, view: DriverFrame) -> UInt8 | None:
        self._last = view.head or self._last
        return None if self._last is None else extract(view.frame.image, self._last.crop, self._size)

    def _prepare_photo(self, head: SourceHead, rest: HeadPose) -> None:
        """The photo, and in a window around the head its person and what stands behind the person."""
        self.photo, crop = shrink(head.photo, head.crop, self._options.max_side)
        reach, matte = self._surrounding_matte(head, crop.side)
        self._placement = Placement(self.photo.shape, crop, reach)
        picture = source_view(head, widened(head.crop, reach), matte.shape[0])
        person = np.dstack([foreground(picture, matte) * matte[..., None], 255 * matte])
        self._around = Surroundings(np.rint(person).astype(np.uint8), rest, reach)
        self._hole = background_plate(picture, matte, fill=self._fill), widened(crop, reach), grown(matte)
        self._behind = paste(self.photo, *self._hole)[self._placement.window]

    @cached_property
    def _removal(self) -> tuple[UInt8, npt.NDArray[np.float32]]:
        """For the window: what stands behind the person, and how far the person has to go, (h, w) in [0, 1]."""
        plate, crop, gone = self._hole
        window = self._placement.window
        filled = paste(self.photo, plate, crop, np.ones_like(gone))[window]
        covered = paste(np.zeros_like(self.photo), np.full_like(plate, 255), crop, gone)[window]
        return np.ascontiguousarray(filled), covered[..., 0].astype(np.float32) / np.float32(255)

    def _surrounding_matte(self, head: SourceHead, crop_side: float) -> tuple[float, npt.NDArray[np.float32]]:
        """How far around the crop the person has to be known, in crop sides, and the matte there.

        Args:
            head: the source.
            crop_side: of the head crop in the picture that is composited into, pixels.
        """
        for reach in (REACH, _TALL_REACH):
            side = int(np.clip(round(crop_side * reach), 128, _LARGEST_SURROUNDINGS))
            matte = person_matte(head, widened(head.crop, reach), side, self._matting)
            if not rises_beyond(matte, reach):
                break
        return reach, matte

    def _square_background(self) -> npt.NDArray[np.uint8]:
        if self._options.background is Background.SOURCE:
            return self._plate
        color = self._options.color if self._options.background is Background.COLOR else _UNDER_TRANSPARENT
        return np.array(color, np.uint8)

    def _in_driver(
        self, rendering: Rendering, person: npt.NDArray[np.float32], view: DriverFrame, driver: UInt8 | None
    ) -> tuple[UInt8, UInt8, UInt8 | None]:
        """Into the driver's frame, whose own head is taken out."""
        options = self._options
        if self._last is None or driver is None:  # nobody is there yet
            frame, _ = shrink(view.frame.image, Crop(0, 0, 1), options.max_side)
            return (self._plate if options.crop_only else frame), over(person, self._plate), None
        wide = widened(self._last.crop)
        side = min(round(self._size * REACH), _LARGEST_DRIVER)
        matte = self._matting.matte(view.frame.image, self._last.face, wide, side)
        plate = background_plate(extract(view.frame.image, wide, side), matte, fill=self._fill)
        square = over(person, extract(plate, Crop(side / 2, side / 2, side / REACH), self._size))
        if options.crop_only:
            return square, square, driver
        frame, crop = shrink(view.frame.image, self._last.crop, options.max_side)
        placement = Placement(frame.shape, crop)
        behind = paste(frame, plate, widened(crop), grown(matte))[placement.window]
        # The driver's hair goes wherever it reaches; the trunk stays, for the new head has to stand on it.
        headless = paste(frame, plate, widened(crop), grown(matte) * _above_trunk(side))
        return placement.paste(headless, behind, rendering), square, driver


def _above_trunk(side: int) -> npt.NDArray[np.float32]:
    """(side, 1) weights of the rows of a widened crop: 1 beside the head, 0 from the shoulders down."""
    rows = ((np.arange(side) + 0.5) * 2 / side - 1) * REACH
    return np.clip((_TRUNK[1] - rows) / (_TRUNK[1] - _TRUNK[0]), 0, 1).astype(np.float32)[:, None]


def rises_beyond(matte: npt.NDArray[np.float32], reach: float) -> bool:
    """Whether a widened crop's matte shows somebody above the trunk where `Placement` already brings all to rest.

    Args:
        matte: (n, n) in [0, 1].
        reach: its side, in crop sides.
    """
    e = np.abs((np.arange(matte.shape[0]) + 0.5) * 2 / matte.shape[0] - 1) * reach
    rim = np.maximum(e[:, None], e[None]) > reach - ANCHOR_RIM[0]
    rim[matte.shape[0] // 2 :] = False
    return bool((matte[rim] > 0.5).mean() > 0.005)


def widened(crop: Crop, reach: float = REACH) -> Crop:
    """A crop `reach` times as wide."""
    return Crop(crop.center_x, crop.center_y, crop.side * reach)


def grown(matte: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A matte made wider and softer by about 2 % of its side, so that no rim of the person stays behind."""
    reach = max(1, round(matte.shape[0] * 0.02))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wider = cv2.dilate(matte, kernel)
    return np.asarray(cv2.GaussianBlur(wider, (0, 0), reach / 2), np.float32)


def _resize(image: UInt8, size: int) -> UInt8:
    how = cv2.INTER_AREA if size < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (size, size), interpolation=how), np.uint8)
