"""The contact sheet of `synth`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from megaportraits.data.clip_schema import ClipFrame
from megaportraits.data.clips import ClipIndex
from megaportraits.media import write_image
from megaportraits.ops.pictures import composite

_COLOURS = ((70, 120, 160), (160, 90, 80), (90, 140, 90), (200, 200, 200), (40, 40, 45))


def write_contact_sheet(folder: Path, path: Path, *, rows: int = 16, columns: int = 8) -> None:
    """Draw a fixed random choice of clips; the last cell of a row is the first frame's surface map."""
    index = ClipIndex(folder)
    # Random, because kinds and colours alternate regularly.
    chosen = np.sort(np.random.default_rng(0).permutation(len(index))[:rows])
    lines = []
    for line, clip in enumerate(chosen):
        _, frames = index.read_clip(int(clip))
        cells = [_over(frame, _COLOURS[line % len(_COLOURS)]) for frame in frames[:columns]]
        size = cells[0].shape[0]
        cells += [np.zeros_like(cells[0])] * (columns - len(cells))
        lines.append(np.hstack([*cells, _surface(frames[0], size)]))
    write_image(path, np.vstack(lines), overwrite=True)


def _over(frame: ClipFrame, colour: tuple[int, int, int]) -> np.ndarray:
    return composite(frame.image, frame.matte, colour)


def _surface(frame: ClipFrame, size: int) -> np.ndarray:
    if frame.coords is None or frame.valid is None:
        return np.zeros((size, size, 3), np.uint8)
    colours = ((frame.coords[..., :3] + 1) * 127.5 * frame.valid[..., None]).astype(np.uint8)
    return cv2.resize(colours, (size, size), interpolation=cv2.INTER_NEAREST)
