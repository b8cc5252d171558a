"""Still images: every common way of storing one reads as the same upright RGB array."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from megaportraits.errors import MediaError, ShapeError
from megaportraits.media import as_image, is_video, read_image, read_picture, write_image


@pytest.fixture
def colours() -> np.ndarray:
    """An asymmetric 20 x 30 picture: red, green, blue and grey quarters."""
    image = np.full((20, 30, 3), 128, np.uint8)
    image[:10, :15], image[:10, 15:], image[10:, :15] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return image


def test_png_round_trip_is_exact(tmp_path: Path, colours: np.ndarray) -> None:
    path = write_image(tmp_path / "a.png", colours)
    assert np.array_equal(read_image(path), colours)
    assert read_picture(path).alpha is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_reads_upright(tmp_path: Path, colours: np.ndarray, orientation: int) -> None:
    # What a camera stores so that the given orientation tag makes it upright (EXIF 2.3, tag 0x0112).
    stored = {
        1: colours,
        2: colours[:, ::-1],
        3: colours[::-1, ::-1],
        4: colours[::-1],
        5: colours.transpose(1, 0, 2),
        6: np.rot90(colours, 1),
        7: colours.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(colours, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), colours)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA", "I", "F"])
def test_every_mode_reads_as_rgb(tmp_path: Path, mode: str) -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (8, 1))
    image = Image.fromarray(ramp).convert(mode)
    image.save(tmp_path / "a.tif")
    rgb = read_image(tmp_path / "a.tif")
    assert rgb.shape == (8, 64, 3)
    assert rgb.dtype == np.uint8
    if mode not in ("1", "I"):  # 1-bit is dithered; 32-bit integers have another full scale
        assert np.abs(rgb.astype(int) - ramp[..., None]).max() <= 1


def test_16_bit_grey_keeps_its_full_scale(tmp_path: Path) -> None:
    values = np.array([[0, 257 * 10, 257 * 200, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 10, 200, 255]


def test_alpha_is_composited_over_white_and_kept_apart(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 0], rgba[:2, :, 3], rgba[2:, :, 3] = 200, 255, 51
    path = write_image(tmp_path / "a.png", rgba)
    assert read_image(path)[0, 0].tolist() == [200, 0, 0]
    assert read_image(path)[3, 0].tolist() == [244, 204, 204]
    picture = read_picture(path)
    assert picture.alpha is not None
    assert np.array_equal(picture.rgb, rgba[..., :3])
    assert np.array_equal(picture.alpha, rgba[..., 3])


def test_colour_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (4, 4), (120, 60, 200))
    image.save(tmp_path / "srgb.png", icc_profile=srgb)
    assert np.abs(read_image(tmp_path / "srgb.png").astype(int) - (120, 60, 200)).max() <= 1
    image.save(tmp_path / "broken.png", icc_profile=profile.tobytes()[:40])
    assert read_image(tmp_path / "broken.png")[0, 0].tolist() == [120, 60, 200]


def linear_profile() -> bytes:
    """An ICC profile (version 2) with the primaries of sRGB and linear light."""
    xyz = {"r": (0.4361, 0.2225, 0.0139), "g": (0.3851, 0.7169, 0.0971), "b": (0.1431, 0.0606, 0.7141)}  # D50

    def fixed(*values: float) -> bytes:
        return struct.pack(">3i", *(round(65536 * value) for value in values))

    tags = [(b"wtpt", b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249))]
    tags += [(f"{name}XYZ".encode(), b"XYZ \0\0\0\0" + fixed(*values)) for name, values in xyz.items()]
    tags += [(f"{name}TRC".encode(), b"curv" + struct.pack(">III", 0, 0, 0)) for name in xyz]
    at, table, data = 132 + 12 * len(tags), b"", b""
    for name, content in tags:
        table += struct.pack(">4sII", name, at + len(data), len(content))
        data += content
    head = bytearray(128)
    head[8:24] = struct.pack(">I4s4s4s", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head[36:40], head[68:80] = b"acsp", fixed(0.9642, 1.0, 0.8249)
    head[:4] = struct.pack(">I", at + len(data))
    return bytes(head) + struct.pack(">I", len(tags)) + table + data


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "P with a clear colour", "P with alphas"])
def test_every_colour_mode_honours_its_profile(tmp_path: Path, mode: str) -> None:
    colors = np.array([(10, 60, 120), (200, 128, 30), (250, 5, 90), (90, 90, 90)])
    image = Image.fromarray(np.tile(colors.astype(np.uint8), (4, 1, 1)))
    options = {}
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.full((4, 4), 77, np.uint8)))
    elif mode.startswith("P"):
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
        options = {"P with a clear colour": {"transparency": 0}, "P with alphas": {"transparency": b"\x4d" * 4}}.get(
            mode, {}
        )
    image.save(tmp_path / "a.png", icc_profile=linear_profile(), **options)
    linear = colors / 255
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    picture = read_picture(tmp_path / "a.png")
    assert np.abs(picture.rgb - 255 * srgb).max() <= 2
    assert (picture.alpha is None) == (mode in ("RGB", "P"))


@pytest.mark.parametrize("mode", ["RGBA", "I;16"])
def test_large_pictures_are_converted_without_floating_point_copies(mode: str) -> None:
    image = Image.new(mode, (4096, 4096), 0)
    tracemalloc.start()
    as_image(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4096 * 4096 * 20  # as float32 three channels alone take 12 bytes a pixel, and there were three such


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1"])
def test_pil_images_are_pictures(colours: np.ndarray, mode: str) -> None:
    image = Image.fromarray(colours).convert(mode)
    kept = image.copy()
    assert np.array_equal(as_image(image), np.asarray(kept.convert("RGB")))
    assert image.mode == mode
    assert image.tobytes() == kept.tobytes()
    assert as_image(colours) is colours


def test_pil_images_are_turned_upright_and_set_over_white(colours: np.ndarray) -> None:
    image = Image.fromarray(np.ascontiguousarray(np.rot90(colours, 1)))
    image.getexif()[0x0112] = 6
    assert np.array_equal(as_image(image), colours)
    assert as_image(Image.new("RGBA", (2, 2), (200, 0, 0, 51)))[0, 0].tolist() == [244, 204, 204]


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (None, "NoneType"),
        (b"bytes", "bytes"),
        (np.zeros((4, 4), np.uint8), r"uint8 \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
    ],
)
def test_an_object_that_is_no_picture_is_refused_with_the_accepted_types(value: object, got: str) -> None:
    with pytest.raises(ShapeError, match=rf"the source: expected a file's path, a PIL image or .*, got .*{got}"):
        as_image(value, "the source")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"just some text, no picture at all", "no image decoder"),
        (b"\x89PNG\r\n\x1a\n123", "image"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=words) as caught:
        read_image(path)
    assert "a.jpg" in caught.value.message
    assert caught.value.fix


def test_truncated_jpeg_is_refused(tmp_path: Path, colours: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.tile(colours, (9, 9, 1))).save(buffer, "JPEG")
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(MediaError, match="truncated"):
        read_image(tmp_path / "a.jpg")


def test_a_missing_file_and_a_folder_give_different_messages(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(MediaError, match="folder"):
        read_image(tmp_path)


def test_existing_file_is_kept_without_overwrite(tmp_path: Path, colours: np.ndarray) -> None:
    path = write_image(tmp_path / "a.png", colours)
    before = path.read_bytes()
    with pytest.raises(MediaError, match="exists already"):
        write_image(path, colours // 2)
    assert path.read_bytes() == before
    write_image(path, colours // 2, overwrite=True)
    assert np.array_equal(read_image(path), colours // 2)


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="transparency"):
        write_image(tmp_path / "a.jpg", np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(MediaError, match="suffix"):
        write_image(tmp_path / "a.xyz", np.zeros((4, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_the_kind_of_a_file_is_found_by_content_not_by_name(tmp_path: Path, colours: np.ndarray) -> None:
    path = write_image(tmp_path / "a.png", colours)
    renamed = path.rename(tmp_path / "a.mp4")
    assert not is_video(renamed)
    frames = [Image.fromarray(np.roll(colours, i, 1)) for i in range(3)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    assert is_video(tmp_path / "b.gif")
    (tmp_path / "notes.txt").write_text("a text file\n" * 50)
    with pytest.raises(MediaError, match="expected an image or a video"):
        is_video(tmp_path / "notes.txt")
