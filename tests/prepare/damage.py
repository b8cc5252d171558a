"""Small videos of a real face, sound and damaged in twenty ways; also `python -m tests.prepare.damage FOLDER COUNT`."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import skimage.data

Image = npt.NDArray[np.uint8]
SIDE = 192


def portrait(number: int = 0, *, side: int = SIDE) -> Image:
    """The astronaut's head at a place and in a light that depend on a number."""
    rng = np.random.default_rng(number)
    left, top = (int(v) for v in rng.integers(0, 24, 2))
    window = skimage.data.astronaut()[top : top + 256, 84 + left : 340 + left]
    gains = rng.uniform(0.85, 1.1, 3)
    return np.clip(cv2.resize(window, (side, side), interpolation=cv2.INTER_AREA) * gains, 0, 255).astype(np.uint8)


def moving(number: int = 0, count: int = 8, *, side: int = SIDE) -> list[Image]:
    """Frames of a head that goes a pixel to the right each time."""
    picture = portrait(number, side=side)
    shift = [np.array([[1.0, 0, step], [0, 1, 0]]) for step in range(count)]
    return [cv2.warpAffine(picture, m, (side, side), borderMode=cv2.BORDER_REPLICATE) for m in shift]


def encode(frames: Iterable[Image], *, fps: int = 5, kind: str = "mp4") -> bytes:
    """Frames to the bytes of a video."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options={"crf": "18", "threads": "1", "g": "4"})
                stream.width, stream.height, stream.pix_fmt = frame.shape[1], frame.shape[0], "yuv420p"
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        if stream is not None:
            for packet in stream.encode():
                container.mux(packet)
    return file.getvalue()


def sound_only() -> bytes:
    """A video container without a picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return file.getvalue()


def _zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("video.mp4", content)
    return file.getvalue()


def _flipped(content: bytes, number: int) -> bytes:
    values = np.frombuffer(content, np.uint8).copy()
    rng = np.random.default_rng(number)
    places = rng.integers(len(values) // 4, 3 * len(values) // 4, 40)
    values[places] ^= rng.integers(1, 256, 40, dtype=np.uint8)
    return values.tobytes()


def _noise(number: int) -> list[Image]:
    rng = np.random.default_rng(number)
    return [rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(6)]


def _jpeg(number: int) -> bytes:
    return cv2.imencode(".jpg", portrait(number)[..., ::-1])[1].tobytes()


def _pair(number: int) -> list[Image]:
    return [np.hstack([frame, frame[:, ::-1]]) for frame in moving(number, 6)]


def _half_zero(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes(len(content) // 2)


KINDS: dict[str, tuple[str, Callable[[int], bytes]]] = {
    # What comes of it: "clips", "none" (no clip, no error), "error", or "any" where it depends on the bits.
    "sound": ("clips", lambda n: encode(moving(n))),
    "empty": ("error", lambda n: b""),
    "text": ("error", lambda n: b"nothing to see here\n" * 50),
    "html": ("error", lambda n: b"<!doctype html><html><body>403 Forbidden</body></html>"),
    "garbage": ("error", lambda n: np.random.default_rng(n).bytes(20_000)),
    "zip": ("error", lambda n: _zipped(encode(moving(n, 2)))),
    "no_index": ("error", lambda n: encode(moving(n))[: -len(encode(moving(n))) // 3]),
    "cut_off_stream": ("clips", lambda n: encode(moving(n, 12), kind="mpegts")[: -9 * 188]),
    "no_header": ("error", lambda n: bytes(64) + encode(moving(n))[64:]),
    "flipped_bytes": ("any", lambda n: _flipped(encode(moving(n, 12), kind="mpegts"), n)),
    "half_zero": ("any", lambda n: _half_zero(encode(moving(n, 12), kind="mpegts"))),
    "garbage_tail": ("clips", lambda n: encode(moving(n)) + np.random.default_rng(n).bytes(5000)),
    "sound_only": ("error", lambda n: sound_only()),
    "noise": ("none", lambda n: encode(_noise(n))),
    "black": ("none", lambda n: encode([np.zeros((96, 96, 3), np.uint8)] * 6)),
    "single_frame": ("none", lambda n: encode(moving(n, 1))),
    "tiny": ("none", lambda n: encode(moving(n, 6, side=16))),
    "cut_every_frame": ("none", lambda n: encode([f for f in moving(n, 5) for f in (f, 255 - f[::-1])][:9])),
    "jpeg_named_mp4": ("clips", _jpeg),
    "cut_off_jpeg": ("error", lambda n: _jpeg(n)[:3000]),
    "two_people": ("clips", lambda n: encode(_pair(n))),
}
"""One sound kind and twenty damaged or odd ones."""


def write_all(folder: Path, count: int) -> dict[str, str]:
    """Write `count` videos, all kinds in turn; the kind by file stem."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {}
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        stem = f"{kind}_{number:03d}"
        (folder / f"{stem}.mp4").write_bytes(KINDS[kind][1](number))
        kinds[stem] = kind
    return kinds


if __name__ == "__main__":
    write_all(Path(sys.argv[1]), int(sys.argv[2]))
