"""Encoding of a clip's members: JPEG or WebP frames, PNG mattes, 16-bit surface maps (`docs/conventions.md`)."""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from megaportraits.errors import ShapeError
from megaportraits.reading import FAULTS

COORDS_SIZE = 64
"""Cells along each side of a surface map."""
MOST_PIXELS = 8192
"""Longest accepted side of an image in a shard. Frames are as large as the stored head crops, at most 2048."""
_TOP = 65535
_FORMATS = ("JPEG", "PNG", "WEBP")
_DAMAGE: tuple[type[Exception], ...] = (*FAULTS, SyntaxError, EOFError, RuntimeError, Image.DecompressionBombError)
"""The exceptions that Pillow raises for damaged bytes."""


def encode_image(image: npt.NDArray[np.uint8], quality: int = 95) -> bytes:
    """(H, W, 3) uint8 RGB to JPEG bytes, without chroma subsampling: lips and irises are a few pixels wide."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError(f"An image must be uint8 (H, W, 3), got {image.dtype} {image.shape}.")
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def encode_webp(image: npt.NDArray[np.uint8], quality: int = 95) -> bytes:
    """(H, W, 3) uint8 RGB to WebP bytes: a third smaller than JPEG, with half of its chroma resolution."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError(f"An image must be uint8 (H, W, 3), got {image.dtype} {image.shape}.")
    options = [cv2.IMWRITE_WEBP_QUALITY, quality]
    return cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def decode_image(content: bytes) -> npt.NDArray[np.uint8]:
    """JPEG or WebP bytes to (H, W, 3) uint8 RGB; ValueError if they cannot be decoded."""
    return cv2.cvtColor(_decode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def encode_matte(matte: npt.NDArray[np.uint8]) -> bytes:
    """(H, W) uint8 alpha to PNG bytes."""
    if matte.dtype != np.uint8 or matte.ndim != 2:
        raise ShapeError(f"A matte must be uint8 (H, W), got {matte.dtype} {matte.shape}.")
    return cv2.imencode(".png", matte)[1].tobytes()


def decode_matte(content: bytes) -> npt.NDArray[np.uint8]:
    """PNG bytes to (H, W) uint8; ValueError if they cannot be decoded."""
    return _decode(content, cv2.IMREAD_GRAYSCALE)


def encode_coords(coords: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> bytes:
    """A surface map (64, 64, 4) in [-1, 1] to 16-bit RGBA PNG bytes.

    Cells that are not valid, or have a value outside [-1, 1], become 0: 16 bits only represent that range.
    """
    expected = (COORDS_SIZE, COORDS_SIZE)
    if coords.shape != (*expected, 4) or valid.shape != expected:
        raise ShapeError(f"A surface map is {(*expected, 4)} with {expected}, got {coords.shape}, {valid.shape}.")
    inside = valid & (np.abs(coords) <= 1).all(-1)
    levels = np.round((coords + 1) / 2 * _TOP)
    pixels = np.where(inside[..., None], levels, 0).astype(np.uint16)
    return cv2.imencode(".png", pixels[..., [2, 1, 0, 3]], [cv2.IMWRITE_PNG_COMPRESSION, 4])[1].tobytes()


def decode_coords(content: bytes) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The inverse of `encode_coords`: coords (64, 64, 4) float32 (0 where not valid) and valid (64, 64)."""
    pixels = _decode(content, cv2.IMREAD_UNCHANGED)
    if pixels.dtype != np.uint16 or pixels.shape != (COORDS_SIZE, COORDS_SIZE, 4):
        raise ValueError(f"expected a 16-bit RGBA map of 64 x 64, got {pixels.dtype} {pixels.shape}")
    valid = np.asarray(pixels.any(-1))
    coords = pixels[..., [2, 1, 0, 3]].astype(np.float32) * (2 / _TOP) - 1
    coords[~valid] = 0
    return coords, valid


def _decode(content: bytes, flags: int) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            width, height = picture.size  # from the header: no pixels are decoded yet
    except _DAMAGE as error:
        raise ValueError(f"the bytes are not a decodable picture: {error}") from error
    if max(width, height) > MOST_PIXELS:
        raise ValueError(f"a picture of {width} x {height}, expected at most {MOST_PIXELS} on a side")
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if pixels is None:
        raise ValueError("the bytes are not a decodable picture")
    return pixels
