"""Composite rendered heads over the chosen background: the photograph, the driver's scene, a colour or none."""

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
from megaportraits.ops.pictures import over, resize
from megaportraits.pipeline.compose import ANCHOR_RIM, REACH, Placement, Rendering, Surroundings, straight
from megaportraits.pipeline.driver import DriverFrame, HeadView
from megaportraits.pipeline.options import AnimateOptions, Background
from megaportraits.pipeline.portrait import PreparedSource, SourceHead, person_matte, shrink, source_view

_TALL_REACH = 2.0
"""Used in place of `REACH` for hats and large hair that reach beyond it."""
_LARGEST_SURROUNDINGS = 768
_LARGEST_DRIVER = 360
"""Largest sides, pixels, at which the region around the head is matted and filled: of the photograph (once) and of
the driver (in every frame)."""
_TRUNK = (0.45, 0.85)
"""Rows of the head crop, crop units, between which removal of the driver fades out, so that the shoulders are kept."""
_UNDER_TRANSPARENT = (255, 255, 255)
"""Background colour of transparent results in files without alpha, such as side-by-side videos."""


class Compositor:
    """Composites one animation's frames.

    Args:
        portrait: the source.
        options: background, sizes, crop or whole picture.
        matting: matting network for the source and the driver.
        rest: the source's pose in its own head crop.
        size: side of the head crop, pixels.
        fill: inpainting method for the background behind heads.

    Attributes:
        photo: (H, W, 3), the whole photograph at the result's size; set only where heads are pasted back into it.
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
        self._plate = resize(portrait.plate, size)
        if options.background is Background.SOURCE and not options.crop_only:
            self._prepare_photo(portrait.head, rest)

    def compose(self, rendering: Rendering, view: DriverFrame) -> tuple[UInt8, UInt8, UInt8 | None]:
        """Composite one frame: the result, the result's head crop alone, and the driver's head crop."""
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
        """Paste this person into a copy of a picture that may already hold other animated people.

        Args:
            picture: (H, W, 3), of the size of `photo`.
            rendering: the rendered head crop.
            drawn: (H, W) in [0, 1], coverage by heads pasted before; removing this person leaves them unchanged.
        """
        filled, gone = self._removal
        gone = gone * (1 - drawn[self._placement.window])
        behind = cv2.blendLinear(np.ascontiguousarray(picture[self._placement.window]), filled, 1 - gone, gone)
        return self._placement.paste(picture, np.asarray(behind, np.uint8), rendering, self._around, drawn)

    def squares(self, rendering: Rendering, view: DriverFrame) -> tuple[UInt8, UInt8 | None]:
        """The result's head crop alone, and the driver's head crop."""
        square = over(rendering.resized(self._size), self._square_background())
        return square, self._driver_square(view)

    def _driver_square(self, view: DriverFrame) -> UInt8 | None:
        self._last = view.head or self._last
        return None if self._last is None else extract(view.frame.image, self._last.crop, self._size)

    def _prepare_photo(self, head: SourceHead, rest: HeadPose) -> None:
        """Prepare the photograph and, in a window around the head, its person and the background plate."""
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
        """For the window: the background without the person, and the weight (h, w) in [0, 1] of its removal."""
        plate, crop, gone = self._hole
        window = self._placement.window
        filled = paste(self.photo, plate, crop, np.ones_like(gone))[window]
        covered = paste(np.zeros_like(self.photo), np.full_like(plate, 255), crop, gone)[window]
        return np.ascontiguousarray(filled), covered[..., 0].astype(np.float32) / np.float32(255)

    def _surrounding_matte(self, head: SourceHead, crop_side: float) -> tuple[float, npt.NDArray[np.float32]]:
        """The side of the region around the crop that needs a matte, in crop sides, and its matte.

        Args:
            head: the source.
            crop_side: side of the head crop in the image that is composited into, pixels.
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
        """Composite into the driver's frame, with the driver's own head removed."""
        options = self._options
        if self._last is None or driver is None:  # the driver's face has not been found yet
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
        # All of the driver's hair is removed. The trunk is kept, because the new head sits on it.
        headless = paste(frame, plate, widened(crop), grown(matte) * _above_trunk(side))
        return placement.paste(headless, behind, rendering), square, driver


def _above_trunk(side: int) -> npt.NDArray[np.float32]:
    """Weights (side, 1) for the rows of a widened crop: 1 at the head, 0 from the shoulders down."""
    rows = ((np.arange(side) + 0.5) * 2 / side - 1) * REACH
    return np.clip((_TRUNK[1] - rows) / (_TRUNK[1] - _TRUNK[0]), 0, 1).astype(np.float32)[:, None]


def rises_beyond(matte: npt.NDArray[np.float32], reach: float) -> bool:
    """Whether the matte of a widened crop shows the person, above the trunk, in the rim where `Placement` fades motion.

    Args:
        matte: (n, n) in [0, 1].
        reach: side of the widened crop, in crop sides.
    """
    e = np.abs((np.arange(matte.shape[0]) + 0.5) * 2 / matte.shape[0] - 1) * reach
    rim = np.maximum(e[:, None], e[None]) > reach - ANCHOR_RIM[0]
    rim[matte.shape[0] // 2 :] = False
    return bool((matte[rim] > 0.5).mean() > 0.005)


def widened(crop: Crop, reach: float = REACH) -> Crop:
    """A crop `reach` times as wide."""
    return Crop(crop.center_x, crop.center_y, crop.side * reach)


def grown(matte: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Dilate and blur a matte by about 2 % of its side, so that no rim of the person remains in the background."""
    reach = max(1, round(matte.shape[0] * 0.02))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wider = cv2.dilate(matte, kernel)
    return np.asarray(cv2.GaussianBlur(wider, (0, 0), reach / 2), np.float32)
