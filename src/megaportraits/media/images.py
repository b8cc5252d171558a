"""Still images in and out: whatever a camera, a phone or a web page wrote becomes an upright RGB array."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from megaportraits.errors import MediaError
from megaportraits.media.files import check_input, staged_output

UInt8 = npt.NDArray[np.uint8]

WHITE = (255, 255, 255)
MAX_PIXELS = 400_000_000
"""Larger pictures are refused: decoding one needs more than 1.2 GB."""
_QUALITY: dict[str, dict[str, Any]] = {
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 92, "method": 4},
    ".png": {"compress_level": 4},
    ".tif": {},
    ".tiff": {},
    ".bmp": {},
}
_OPAQUE_FORMATS = frozenset({".jpg", ".jpeg", ".bmp"})

Image.MAX_IMAGE_PIXELS = None  # our own limit gives a MediaError in place of a warning


@dataclass(frozen=True)
class Picture:
    """A decoded still image.

    Attributes:
        rgb: (H, W, 3) uint8, upright, straight (not premultiplied) colours.
        alpha: (H, W) uint8 when the file carries transparency, else None.
    """

    rgb: UInt8
    alpha: UInt8 | None


def read_picture(path: str | Path) -> Picture:
    """Read a still image with its transparency.

    The EXIF orientation is applied, embedded colour profiles are converted to sRGB, and grey, palette,
    CMYK, 1-bit, 16-bit and float images become 8-bit RGB. Of an animated file the first frame is taken.

    Raises:
        MediaError: the file is missing, empty, truncated, too large or not an image.
    """
    path = check_input(path)
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MediaError(
                    f"{path}: expected at most {MAX_PIXELS // 1_000_000} megapixels, "
                    f"got {image.width} x {image.height}",
                    fix="Shrink the picture first; a head needs some hundred pixels only.",
                )
            image.load()
            return _to_picture(image)
    except UnidentifiedImageError as error:
        raise MediaError(
            f"{path}: expected an image, got a file that no image decoder knows",
            fix="Give a JPEG, PNG, WebP, TIFF or BMP file.",
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow's plugins raise all of these
        raise MediaError(
            f"{path}: the image is damaged or truncated ({error})",
            fix="Export or download the picture again.",
        ) from error


def read_image(path: str | Path, *, background: tuple[int, int, int] = WHITE) -> UInt8:
    """Read a still image as (H, W, 3) uint8 RGB; transparency is composited over `background`.

    Raises:
        MediaError: as `read_picture`.
    """
    picture = read_picture(path)
    if picture.alpha is None:
        return picture.rgb
    alpha = picture.alpha[..., None].astype(np.float32) / 255
    mixed = picture.rgb * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return np.round(mixed).astype(np.uint8)


def write_image(path: str | Path, image: UInt8, *, overwrite: bool = False) -> Path:
    """Write (H, W, 3) RGB or (H, W, 4) straight RGBA uint8; the format follows the suffix.

    The file appears complete or not at all.

    Raises:
        MediaError: the suffix is unknown or cannot hold transparency, the file exists and `overwrite` is
            false, or the disk is full.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _QUALITY:
        raise MediaError(
            f"{path}: expected an image suffix, got {suffix!r}",
            fix=f"Use one of {', '.join(sorted(_QUALITY))}.",
        )
    if image.ndim != 3 or image.shape[2] not in (3, 4) or image.dtype != np.uint8:
        raise MediaError(f"expected uint8 (H, W, 3 or 4), got {image.dtype} {image.shape}")
    if image.shape[2] == 4 and suffix in _OPAQUE_FORMATS:
        raise MediaError(f"{path}: {suffix} files hold no transparency", fix="Write a .png or .webp file.")
    with staged_output(path, overwrite=overwrite) as part:
        Image.fromarray(image).save(part, **_QUALITY[suffix])
    return path


def _to_picture(image: Image.Image) -> Picture:
    profile = image.info.get("icc_profile")
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_8_bit(np.asarray(image), image.mode))
        has_alpha = False
    if profile and image.mode in ("RGB", "CMYK", "L"):
        image = _to_srgb(image, profile)
    if not has_alpha:
        return Picture(np.array(image if image.mode == "RGB" else image.convert("RGB")), None)
    rgba = np.array(image.convert("RGBA"))
    alpha = rgba[..., 3]
    return Picture(np.ascontiguousarray(rgba[..., :3]), None if alpha.min() == 255 else alpha.copy())


def _to_8_bit(values: npt.NDArray[Any], mode: str) -> UInt8:
    """16-bit, 32-bit and float greys to 8 bits; full scale by the mode, or by the values where it is open."""
    values = np.nan_to_num(values.astype(np.float64))
    top = float(values.max(initial=0.0))
    scales = (65535.0,) if mode.startswith("I") else (1.0, 255.0, 65535.0)
    full = next((scale for scale in scales if top <= scale), top)
    return np.round(np.clip(values / full, 0, 1) * 255).astype(np.uint8)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError):
        return image  # a broken profile leaves the plain values, as browsers do
    return converted if converted is not None else image
