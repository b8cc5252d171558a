"""Inpaint the background behind the person: a background plate for areas that the moving head uncovers.

The paper uses LaMa (`lama.Lama` loads it). By default the plate is made from the photograph alone: colours are
interpolated inwards from all sides over a pyramid (push-pull; Gortler et al., SIGGRAPH 1996). Then the grain of the
surroundings is added, because a hole without grain looks smeared. Only the border of the hole becomes visible, so large
structures inside it matter little.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits import weights
from megaportraits.choices import InpaintingName
from megaportraits.errors import ShapeError
from megaportraits.faces.networks import Image, check_image
from megaportraits.ops.pictures import resize

Floats = npt.NDArray[np.float32]

_FLAT_REACH = 5
"""Pixels on each side of the windows whose detail is compared."""
_FLATTEST = 0.05
"""Share of the known background that counts as flat."""


Fill = Callable[[Image, npt.NDArray[np.uint8]], Floats]
"""An inpainter: image (H, W, 3) uint8 and hole (H, W), 1 inside, to a filled image (H, W, 3) in [0, 255]."""


def smooth_fill(image: Image, hole: npt.NDArray[np.uint8]) -> Floats:
    """The default inpainter: push-pull colours with the grain of the surroundings."""
    known = (1 - hole).astype(np.float32)
    return push_pull(image.astype(np.float32), known) + _grain(image, known)


def open_inpainting(name: InpaintingName, device: str = "cpu") -> Fill:
    """An inpainter by its name: "smooth" (the default) or "lama", the paper's, with weights of 206 MB to download.

    Raises:
        WeightsError: the weights cannot be downloaded.
    """
    if name == "smooth":
        return smooth_fill
    from megaportraits.faces.lama import Lama

    return Lama.from_file(weights.fetch("lama"), device=device)


def background_plate(
    image: Image, matte: npt.NDArray[np.floating], *, margin: float = 0.02, fill: Fill = smooth_fill
) -> Image:
    """The image with everything under a matte replaced by a continuation of what surrounds it.

    Args:
        image: uint8 (H, W, 3).
        matte: (H, W) in [0, 1], the alpha of what is to be removed.
        margin: width of the border around the matte that is also replaced (mixed pixels and shadows), relative to the
            longer side.
        fill: the inpainter.

    Returns:
        uint8 (H, W, 3), equal to the image outside the matte and its margin.

    Raises:
        ShapeError: matte and image differ in size.
    """
    check_image(image)
    if matte.shape != image.shape[:2]:
        raise ShapeError(f"Expected a matte of the image's size {image.shape[:2]}, got {matte.shape}.")
    reach = max(round(margin * max(matte.shape)), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    hole = cv2.dilate((matte > 0.02).astype(np.uint8), disc)
    if not hole.any():
        return image.copy()
    if hole.all():
        # The background is not visible at all: use the image's mean colour.
        return np.broadcast_to(np.rint(image.mean((0, 1))), image.shape).astype(np.uint8)
    filled = fill(image, hole)
    # Blend over the margin, so that the seam is soft and inside the background.
    blend = np.clip(cv2.blur(hole.astype(np.float32), (reach, reach)) * hole * 2, 0, 1)[..., None]
    return np.rint(np.clip(image * (1 - blend) + filled * blend, 0, 255)).astype(np.uint8)


def push_pull(values: Floats, known: Floats) -> Floats:
    """Fill unknown pixels smoothly from the known ones around them.

    Args:
        values: (H, W, C) float32.
        known: (H, W) float32, 1 where a value is known, 0 where it is not; not all 0.

    Returns:
        (H, W, C), equal to `values` where known is 1.
    """
    height, width = known.shape
    weight = known[..., None]
    if min(height, width) <= 2:
        mean = (values * weight).sum((0, 1)) / max(float(known.sum()), 1e-6)
        return values * weight + mean * (1 - weight)
    # Push: averages of known pixels, at half the size.
    half = ((width + 1) // 2, (height + 1) // 2)
    coarse_weight = resize(_soften(known), half)
    coarse = np.asarray(resize(_soften(values * weight), half) / np.maximum(coarse_weight, 1e-6)[..., None], np.float32)
    # Pull: unknown pixels come from the filled coarser level.
    filled = push_pull(coarse, np.minimum(coarse_weight * 4, 1))
    fine = _soften(resize(filled, (width, height), enlarge=cv2.INTER_LINEAR))
    return values * weight + fine * (1 - weight)


def _soften(array: Floats) -> Floats:
    return cv2.GaussianBlur(array, (5, 5), 1.0, borderType=cv2.BORDER_REFLECT)


def _grain(image: Image, known: Floats) -> Floats:
    """Noise (H, W, 3) with the strength and scale of the noise in flat parts of the known background."""
    detail = np.abs(image.astype(np.float32) - cv2.GaussianBlur(image, (0, 0), 1.5))
    window = 2 * _FLAT_REACH + 1
    away = cv2.erode(known, np.ones((window + 6, window + 6), np.uint8)) > 0  # 6: the blur above mixes neighbours in
    if not away.any():
        return np.zeros(image.shape, np.float32)
    # Detail of the flattest places is grain; elsewhere it is texture (foliage, cloth), which must not become noise.
    local = cv2.blur(detail, (window, window))[away]
    strength = np.quantile(local, _FLATTEST, axis=0) * np.sqrt(np.pi / 2)
    noise = np.random.default_rng(0).normal(size=image.shape[:2]).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.6)
    return (noise / noise.std())[..., None] * strength.astype(np.float32)
