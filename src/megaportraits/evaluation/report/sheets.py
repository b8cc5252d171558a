"""Contact sheets: for each pair the source, and one row per method with outputs at several times."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from megaportraits.evaluation.methods.base import TRUE
from megaportraits.evaluation.report.results import PairRow
from megaportraits.extras import optional_dependency
from megaportraits.media.images import UInt8
from megaportraits.ops.pictures import resize

PAPER = 255
"""Grey level of the background of sheets."""
_INK = (40, 40, 40)
_MARGIN = 4
_SHEET_TILE = 128
_TEXT_SIZE = 12
"""Size of the font in pixels; a character is 7.2 pixels wide."""


def pair_block(row: PairRow, methods: Sequence[str], tile: int) -> UInt8:
    """Show one pair: its name and source on the left, and a row of images for each method with results.

    Args:
        row: the pair, with a note and at least one result.
        methods: names of the methods, in the order of rows.
        tile: side of each image, pixels.
    """
    made = [name for name in methods if name in row.results]
    source = resize(row.note.source, tile) if row.note is not None else _blank(tile)
    rows = []
    for index, name in enumerate(made):
        named = label(tile, "driver" if name == TRUE else name)
        left = title(tile, row.pair.key) if index == 0 else source if index == 1 else _blank(tile)
        cells = [left, named]
        rows.append(np.concatenate([*cells, *(resize(p, tile) for p in row.results[name].thumbnails)], axis=1))
    block = np.concatenate(rows, axis=0)
    edge = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
    return np.pad(block, edge, constant_values=PAPER)


def contact_sheet(rows: Sequence[PairRow], methods: Sequence[str], per_row: int = 2) -> UInt8:
    """Show all pairs of a protocol that have results in one image (H, W, 3)."""
    blocks = [pair_block(row, methods, _SHEET_TILE) for row in rows if row.results]
    height, width = max(block.shape[0] for block in blocks), max(block.shape[1] for block in blocks)
    padded = [
        np.pad(b, ((0, height - b.shape[0]), (0, width - b.shape[1]), (0, 0)), constant_values=PAPER) for b in blocks
    ]
    per_row = min(per_row, len(padded))
    padded += [np.full_like(padded[0], PAPER)] * (-len(padded) % per_row)
    lines = [np.concatenate(padded[i : i + per_row], axis=1) for i in range(0, len(padded), per_row)]
    return np.concatenate(lines, axis=0)


def _blank(tile: int) -> UInt8:
    return np.full((tile, tile, 3), PAPER, np.uint8)


def title(tile: int, text: str) -> UInt8:
    """An image of a pair's name, broken into lines."""
    cell, per_line, text = _blank(tile), max(tile // 8, 4), printable(text)
    for line, start in enumerate(range(0, min(len(text), 6 * per_line), per_line)):
        put_text(cell, text[start : start + per_line], 4, 16 + 15 * line)
    return cell


def label(tile: int, text: str) -> UInt8:
    """An image of a method's name for the start of its row, one word per line."""
    cell = np.full((tile, tile * 5 // 8, 3), PAPER, np.uint8)
    for line, word in enumerate(text.split()):
        put_text(cell, word[: tile // 12], 6, tile // 2 + 15 * line)
    return cell


def put_text(picture: UInt8, text: str, x: int, y: int) -> None:
    """Write a line into a sheet; (x, y) is the left end of its baseline, pixels. See `printable`."""
    font, _ = _font()
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((x, y), printable(text), fill=_INK, font=font, anchor="ls")
    picture[:] = np.asarray(image)


def printable(text: str) -> str:
    r"""The text with every character that the sheets' font lacks as its code, for example `\u6f22`.

    The font has Latin, Greek, Cyrillic, Arabic and Armenian letters, among others, but no Chinese or Japanese ones.
    """
    _, known = _font()
    return "".join(
        letter if ord(letter) in known else letter.encode("ascii", "backslashreplace").decode() for letter in text
    )


@cache
def _font() -> tuple[ImageFont.FreeTypeFont, frozenset[int]]:
    """The font of sheets, which matplotlib ships, and the code points of its letters."""
    with optional_dependency("train", "An evaluation report"):
        from matplotlib import get_data_path
        from matplotlib.ft2font import FT2Font
    path = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
    return ImageFont.truetype(path, _TEXT_SIZE), frozenset(FT2Font(str(path)).get_charmap())
