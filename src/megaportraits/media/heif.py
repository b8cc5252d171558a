"""HEIC pictures by libheif: registration with Pillow, and checks for missing parts, which libheif does not report."""

from __future__ import annotations

import struct
from typing import BinaryIO

import pillow_heif
from PIL import Image

from megaportraits.media.hdr import ColorMap


def register() -> None:
    """Let Pillow read HEIC; tiles are joined and turned upright."""
    pillow_heif.register_heif_opener(thumbnails=False)


def check_whole(image: Image.Image, file: BinaryIO) -> None:
    """Refuse a HEIC file with missing parts.

    libheif decodes what is left of such a file: a tile instead of the picture, or grey instead of a tile.

    Args:
        image: open, not decoded yet.
        file: its bytes; the position is kept.

    Raises:
        ValueError: the main picture cannot be read, or a box extends beyond the end of the file.
    """
    if image.format != "HEIF":
        return
    if not image.info.get("primary", True):
        raise ValueError("the picture itself is missing")
    before, end = file.tell(), file.seek(0, 2)
    at = 0
    while at + 16 <= end:
        file.seek(at)
        size, _, large = struct.unpack(">I4sQ", file.read(16))
        size = large if size == 1 else size or end - at
        at += max(size, 8)
    file.seek(before)
    if at > end:
        raise ValueError(f"{at - end} bytes are missing at its end")


def marked_colors(image: Image.Image) -> ColorMap | None:
    """The conversion of a picture with a colour tag (ITU-T H.273); None without a tag."""
    marked = image.info.get("nclx_profile")
    if not marked:
        return None
    return ColorMap.of(marked["transfer_characteristics"], marked["color_primaries"])
