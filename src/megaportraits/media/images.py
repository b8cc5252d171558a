"""Read and write still images; images of cameras, phones and web pages become upright RGB arrays."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from megaportraits.errors import MediaError, ShapeError
from megaportraits.media import heif
from megaportraits.media.files import check_input
from megaportraits.media.hdr import UInt8
from megaportraits.media.limits import DEFAULT_LIMITS, Limits
from megaportraits.media.staging import Sign, staged_output
from megaportraits.ops.pictures import composite
from megaportraits.reading import FAULTS

WHITE = (255, 255, 255)
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".tif", ".tiff", ".bmp")
"""Suffixes of photographs when a folder is searched."""
STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of still outputs of `animate`, the default first."""
_BAND = 1 << 22
"""Number of pixels that are converted in one block."""
_FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "PSD")
"""Pillow's names of the supported formats. Some others start programs (EPS) or have no signature (TGA)."""
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

Image.MAX_IMAGE_PIXELS = None  # our own limit raises a MediaError instead of a warning
heif.register()

DAMAGE: tuple[type[Exception], ...] = (*FAULTS, SyntaxError, EOFError, RuntimeError, MemoryError, struct.error)
"""Exceptions of Pillow's plugins for damaged files."""


@dataclass(frozen=True)
class Picture:
    """A decoded still image.

    Attributes:
        rgb: (H, W, 3) uint8, upright, straight (not premultiplied) colours.
        alpha: (H, W) uint8 when the file carries transparency, else None.
    """

    rgb: UInt8
    alpha: UInt8 | None


@contextmanager
def open_picture(path: Path, limits: Limits = DEFAULT_LIMITS) -> Iterator[Image.Image]:
    """Open a picture file whose pixels are not decoded yet; its size is known and within the limits.

    Raises:
        MediaError: it exceeds a limit.
        PIL.UnidentifiedImageError: it is no picture in a format of the list.
        One of `DAMAGE`: it is damaged.
    """
    limits.check_file(path)
    with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
        limits.check_picture(path, *image.size)
        heif.check_whole(image, file)
        yield image


def read_picture(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Read a still image with its transparency.

    The orientation that the file states is applied, embedded colour profiles are converted to sRGB, and grey, palette,
    CMYK, 1-bit, 16-bit and float images become 8-bit RGB. Of an animated file the first frame is taken.

    Raises:
        MediaError: the file is missing, empty, truncated, not an image, or exceeds a limit.
    """
    path = check_input(path)
    try:
        with open_picture(path, limits) as image:
            image.load()
            return to_picture(image)
    except UnidentifiedImageError as error:
        raise MediaError(
            f"{path}: expected an image, got a file that no image decoder knows",
            fix="Give a JPEG, PNG, WebP, HEIC, AVIF, TIFF or BMP file.",
        ) from error
    except DAMAGE as error:
        raise MediaError(
            f"{path}: the image is damaged or truncated ({error})",
            fix="Export or download the picture again.",
        ) from error


def read_image(path: str | Path, *, background: tuple[int, int, int] = WHITE, limits: Limits = DEFAULT_LIMITS) -> UInt8:
    """Read a still image as (H, W, 3) uint8 RGB; transparency is composited over `background`.

    Raises:
        MediaError: as `read_picture`.
    """
    return flattened(read_picture(path, limits), background)


def flattened(picture: Picture, background: tuple[int, int, int] = WHITE) -> UInt8:
    """A picture's colours, (H, W, 3) uint8, over a background where it is transparent."""
    if picture.alpha is None:
        return picture.rgb
    mixed = np.empty_like(picture.rgb)
    for rows in _bands(picture.rgb.shape[:2]):
        mixed[rows] = composite(picture.rgb[rows], picture.alpha[rows], background)
    return mixed


def as_picture(value: object, name: str = "a picture") -> Picture:
    """Convert a picture in memory: a (H, W, 3) uint8 RGB array, or a PIL image of any mode.

    PIL images are turned upright and converted to sRGB, as `read_picture` does with files.

    Args:
        value: the object.
        name: its name in messages.

    Raises:
        ShapeError: another type of object, or an array of another shape or type.
    """
    if isinstance(value, Image.Image):
        return to_picture(ImageOps.exif_transpose(value))
    if isinstance(value, np.ndarray):
        if value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3 and value.size:
            return Picture(value, None)
        got = f"an array {value.dtype} {value.shape}"
    else:
        got = type(value).__name__
    raise ShapeError(
        f"{name}: expected a file's path, a PIL image or a uint8 RGB array (H, W, 3), got {got}",
        fix="Convert it, as in numpy.asarray(picture, numpy.uint8).",
    )


def as_image(value: object, name: str = "a picture") -> UInt8:
    """`as_picture` as (H, W, 3) uint8 RGB; transparency is composited over white.

    Raises:
        ShapeError: as `as_picture`.
    """
    return flattened(as_picture(value, name))


def write_image(
    path: str | Path,
    image: UInt8,
    *,
    overwrite: bool = False,
    late: bool = False,
    note: str | None = None,
    sign: Sign | None = None,
) -> Path:
    """Write (H, W, 3) RGB or (H, W, 4) straight RGBA uint8; the format follows the suffix.

    The file appears complete or not at all.

    Args:
        path: the file.
        image: the picture.
        overwrite: whether an existing file may be replaced.
        late: see `staging.StagedFile`.
        note: a description for the file's metadata (EXIF), or None; .bmp files hold none.
        sign: signs the file (`credentials.Credentials.signer`), or None.

    Raises:
        MediaError: the suffix is unknown or cannot hold transparency, the file exists and `overwrite` is
            false, or the disk is full.
        SigningError: see `staging.StagedFile.commit`.
        OutputTakenError: with `late`, the file exists and `overwrite` is false; the picture is kept under another name.
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
    with staged_output(path, overwrite=overwrite, late=late, sign=sign) as part:
        Image.fromarray(image).save(part, **_QUALITY[suffix], **_described(note, suffix))
    return path


def _described(note: str | None, suffix: str) -> dict[str, Any]:
    if note is None or suffix == ".bmp":
        return {}
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = note
    return {"exif": exif}


def to_picture(image: Image.Image) -> Picture:
    """Upright 8-bit sRGB colours and alpha of a loaded image; the image object may be modified."""
    profile = image.info.get("icc_profile")
    color_map = None if profile else heif.marked_colors(image)
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_8_bit(np.asarray(image), image.mode))
        has_alpha = False
    alpha: UInt8 | None = None
    if has_alpha:
        image = image.convert("LA" if image.mode == "La" else "RGBA") if image.mode != "LA" else image
        alpha = np.array(image.getchannel("A"))
        image = image.convert("L" if image.mode == "LA" else "RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        image = _to_srgb(image, profile)
    rgb = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    if color_map is not None:
        deep = rgb.astype(np.uint16) * 257
        rgb = color_map.fitted([deep])(deep)
    return Picture(rgb, None if alpha is None or np.min(alpha) == 255 else alpha)


def _to_8_bit(values: npt.NDArray[Any], mode: str) -> UInt8:
    """16-bit, 32-bit and float greys to 8 bits; full scale is that of the mode, or of the values if it has none."""
    bands = _bands(values.shape)
    top = max(float(np.max(np.nan_to_num(values[rows].astype(np.float64)), initial=0.0)) for rows in bands)
    scales = (65535.0,) if mode.startswith("I") else (1.0, 255.0, 65535.0)
    full = next((scale for scale in scales if top <= scale), top)
    bits = np.empty(values.shape, np.uint8)
    for rows in bands:
        bits[rows] = np.round(np.clip(np.nan_to_num(values[rows].astype(np.float64)) / full, 0, 1) * 255)
    return bits


def _bands(shape: tuple[int, ...]) -> list[slice]:
    """Blocks of rows of a picture: floating-point copies of whole large pictures would take gigabytes."""
    height = max(1, _BAND // shape[1])
    return [slice(start, start + height) for start in range(0, shape[0], height)]


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError):
        return image  # a damaged profile is ignored, as in browsers
    return converted if converted is not None else image
