"""HDR and wide-gamut media look like their SDR versions."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from megaportraits.media import VideoReader, read_image
from megaportraits.media.hdr import ColorMap

BT709_TO_BT2020 = np.array(
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
)  # ITU-R BT.2087, table of 2.2
PQ, HLG = 16, 18


def pq(nits: np.ndarray) -> np.ndarray:
    """The inverse EOTF of SMPTE ST 2084."""
    y = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(nits: np.ndarray) -> np.ndarray:
    """The inverse OOTF for a display of 1000 cd/m2 and the OETF of BT.2100."""
    luma = nits @ [0.2627, 0.6780, 0.0593]
    scene = nits / 1000 * (np.maximum(luma, 1e-9) / 1000)[..., None] ** (1 / 1.2 - 1)
    low = np.sqrt(3 * np.minimum(scene, 1 / 12))
    return np.where(scene <= 1 / 12, low, 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073)


def picture(top: float = 255) -> np.ndarray:
    """Ramps of grey, skin and strong colours, (48, 64, 3) float code values of BT.709."""
    ramp = np.linspace(8, top, 64)
    colors = np.array([[1, 1, 1], [1, 0.75, 0.62], [0.5, 0.33, 0.25], [0.9, 0.25, 0.2], [0.3, 0.8, 0.3], [0.3, 0.4, 1]])
    return np.repeat(colors[:, None] * ramp[:, None], 8, axis=0)


def in_hdr(codes: np.ndarray, transfer: int) -> np.ndarray:
    """The HDR twin of SDR code values with white at 203 cd/m2, (H, W, 3) in [0, 1]."""
    nits = 203 * (codes / 255) ** 2.4 @ BT709_TO_BT2020.T
    return {PQ: pq, HLG: hlg}[transfer](nits)


def write(path: Path, signal: np.ndarray, transfer: int, primaries: int = 9) -> Path:
    """A 10-bit video of one picture, marked as given."""
    deep = np.rint(np.clip(signal, 0, 1) * 65535).astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, primaries, transfer, 1
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(deep, format="rgb48le")
            frame = frame.reformat(
                format="yuv444p10le", dst_colorspace=9, src_color_range=2, dst_color_range=1, threads=1
            )
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


@pytest.mark.parametrize(("transfer", "name"), [(PQ, "PQ"), (HLG, "HLG")])
@pytest.mark.parametrize("top", [150, 255])
def test_hdr_video_looks_like_its_sdr_twin(tmp_path: Path, transfer: int, name: str, top: float) -> None:
    twin = picture(top)
    reader = VideoReader(write(tmp_path / "a.mp4", in_hdr(twin, transfer), transfer))
    assert reader.info.hdr == name
    for frame in reader:
        assert np.abs(frame.image - twin).mean() < 3
        assert np.std(frame.image) == pytest.approx(np.std(twin), rel=0.03)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_highlights_stay_apart_and_skin_as_it_is(tmp_path: Path, transfer: int) -> None:
    """A lamp of 1000 cd/m2 beside a face: the lamp has structure, the face keeps its contrast."""
    codes = picture(200)
    signal = in_hdr(codes, transfer)
    lamp = np.repeat(np.geomspace(203, 950, 16)[:, None], 3, 1)
    signal[:8, :16] = {PQ: pq, HLG: hlg}[transfer](lamp)
    image = next(iter(VideoReader(write(tmp_path / "a.mp4", signal, transfer)))).image
    assert np.abs(image[10:40].astype(float) - codes[10:40]).mean() < 3
    shades = image[4, 1:15, 1].astype(int)
    assert shades[0] > 220
    assert shades[-1] > shades[7] > shades[0]


def test_sdr_video_is_not_touched(tmp_path: Path) -> None:
    reader = VideoReader(write(tmp_path / "a.mp4", picture() / 255, transfer=1, primaries=1))
    assert reader.info.hdr is None
    assert np.abs(next(iter(reader)).image - picture()).mean() < 1.5
    assert ColorMap.of(1, 1) is ColorMap.of(2, 2) is ColorMap.of(13, 1) is None


def test_wide_gamut_becomes_bt709(tmp_path: Path) -> None:
    wide = ((picture() / 255) ** 2.4 @ BT709_TO_BT2020.T) ** (1 / 2.4)
    reader = VideoReader(write(tmp_path / "a.mp4", wide, transfer=14))
    assert reader.info.hdr is None
    assert np.abs(next(iter(reader)).image - picture()).mean() < 2


def test_hdr_heic_is_tone_mapped(tmp_path: Path) -> None:
    signal = np.rint(in_hdr(picture(200), PQ) * 255).astype(np.uint8)
    heif = pillow_heif.from_pillow(Image.fromarray(signal))
    heif.save(tmp_path / "a.heic", quality=-1, color_primaries=9, transfer_characteristics=PQ, matrix_coefficients=9)
    assert np.abs(read_image(tmp_path / "a.heic") - picture(200)).mean() < 6
