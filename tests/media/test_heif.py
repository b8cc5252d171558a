"""Photographs from telephones: HEIC in tiles, HEIC with a rotation, and AVIF."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from megaportraits.errors import MediaError
from megaportraits.evaluation.plan import find_media
from megaportraits.media import Limits, is_video, read_image
from megaportraits.pipeline.distillation import find_avatars

TILE = 64


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def coded(tile: np.ndarray, folder: Path) -> tuple[bytes, bytes]:
    """The decoder's configuration box and the bytes of one picture, out of a file by libheif."""
    path = folder / "tile.heic"
    pillow_heif.from_pillow(Image.fromarray(tile)).save(path, quality=95, chroma=444)
    content = path.read_bytes()
    path.unlink()
    start = content.index(b"hvcC") - 4
    config = content[start : start + struct.unpack(">I", content[start : start + 4])[0]]
    return config, content[content.index(b"mdat") + 4 :]  # the last box, and nothing else in it


def telephone(path: Path, picture: np.ndarray, quarter_turns: int = 0) -> Path:
    """A HEIC file as telephones write it: tiles of 64 px, an output size, a rotation (counter-clockwise)."""
    height, width = picture.shape[:2]
    rows, columns = -(-height // TILE), -(-width // TILE)
    padded = np.pad(picture, ((0, rows * TILE - height), (0, columns * TILE - width), (0, 0)), mode="edge")
    tiles = [padded[r * TILE : (r + 1) * TILE, c * TILE : (c + 1) * TILE] for r in range(rows) for c in range(columns)]
    parts = [coded(np.ascontiguousarray(tile), path.parent) for tile in tiles]
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    items = [payload for _, payload in parts] + [grid]
    count = len(parts)
    ids = range(1, count + 2)
    infos = [full(b"infe", 2, 0, struct.pack(">HH4s", i, 0, b"hvc1" if i <= count else b"grid"), b"\0") for i in ids]
    properties = box(
        b"ipco",
        parts[0][0],
        full(b"ispe", 0, 0, struct.pack(">II", TILE, TILE)),
        full(b"ispe", 0, 0, struct.pack(">II", width, height)),
        box(b"irot", bytes([quarter_turns])),
    )
    tied = [struct.pack(">HBBB", i, 2, 0x80 | 1, 2) for i in ids[:-1]] + [struct.pack(">HBBB", ids[-1], 2, 3, 0x80 | 4)]

    def meta(first: int) -> bytes:
        places, at = [], first
        for i, item in zip(ids, items, strict=True):
            places.append(struct.pack(">HHHII", i, 0, 1, at, len(item)))
            at += len(item)
        return full(
            b"meta",
            0,
            0,
            full(b"hdlr", 0, 0, b"\0" * 4, b"pict", b"\0" * 13),
            full(b"pitm", 0, 0, struct.pack(">H", ids[-1])),
            full(b"iloc", 0, 0, struct.pack(">BBH", 0x44, 0, len(items)), *places),
            full(b"iinf", 0, 0, struct.pack(">H", len(infos)), *infos),
            box(b"iprp", properties, full(b"ipma", 0, 0, struct.pack(">I", len(tied)), *tied)),
            box(
                b"iref",
                b"\0" * 4,
                box(b"dimg", struct.pack(">HH", ids[-1], count), *(struct.pack(">H", i) for i in ids[:-1])),
            ),
        )

    head = box(b"ftyp", b"heic", b"\0" * 4, b"mif1heic")
    first = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(first) + box(b"mdat", *items))
    return path


def ramp() -> np.ndarray:
    """(100, 150, 3): red grows to the right, green downwards."""
    image = np.full((100, 150, 3), 90, np.uint8)
    image[..., 0], image[..., 1] = np.arange(150) + 50, np.arange(100)[:, None] + 50
    return image


@pytest.mark.parametrize("turns", range(4))
def test_a_telephones_picture_is_whole_and_upright(tmp_path: Path, turns: int) -> None:
    path = telephone(tmp_path / "a.heic", ramp(), turns)
    image = read_image(path)
    expected = np.rot90(ramp(), turns)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 3
    assert not is_video(path)


def test_pictures_are_read_by_their_content_and_within_the_limits(tmp_path: Path) -> None:
    path = telephone(tmp_path / "a.jpg", ramp())
    assert read_image(path).shape == (100, 150, 3)
    for read in (is_video, read_image):
        with pytest.raises(MediaError, match="megapixels, got 150 x 100"):
            read(path, limits=Limits(pixels=14_999))


def test_a_damaged_picture_of_a_telephone_is_refused(tmp_path: Path) -> None:
    path = telephone(tmp_path / "a.heic", ramp())
    content = path.read_bytes()
    for length in (200, len(content) // 2, len(content) - 200):
        path.write_bytes(content[:length])
        with pytest.raises(MediaError):
            read_image(path)


def test_avif_is_read(tmp_path: Path) -> None:
    Image.fromarray(ramp()).save(tmp_path / "a.avif", quality=95, subsampling="4:4:4")
    assert np.abs(read_image(tmp_path / "a.avif").astype(int) - ramp()).mean() < 3
    assert not is_video(tmp_path / "a.avif")


def test_pictures_of_telephones_are_found_in_folders(tmp_path: Path) -> None:
    telephone(tmp_path / "anna.HEIC", ramp())
    Image.fromarray(ramp()).save(tmp_path / "ben.avif")
    (tmp_path / "notes.txt").write_text("not a picture")
    assert sorted(find_avatars(tmp_path)) == ["anna", "ben"]
    assert [path.name for path in find_media([tmp_path], videos=False)] == ["anna.HEIC", "ben.avif"]
