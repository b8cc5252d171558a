"""The demo's driver: a procedural person who talks. It shows nobody, so that everybody may ship it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.media import VideoWriter
from megaportraits.synth.acting import act
from megaportraits.synth.cg import CgCast
from megaportraits.synth.head import MorphableHead

FPS = 25
_TOP, _BOTTOM = (176, 190, 202), (120, 134, 148)  # of the wall behind


def render_driver(
    head: Path, out: Path, *, seconds: float = 4.0, size: int = 256, person: int = 82, overwrite: bool = False
) -> None:
    """Write `acting.act` by one procedural person as a video.

    Args:
        head: packed morphable head or FaceXModel folder.
        out: a video file.
        seconds: length.
        size: pixels along each side.
        person: number of the person.
        overwrite: whether `out` may be replaced.

    Raises:
        DataError: no head there.
        MediaError: `out` exists or cannot be written.
    """
    model = MorphableHead.load(head)
    actor = CgCast(model).person(person)
    wall = _wall(size)
    with VideoWriter(out, fps=FPS, overwrite=overwrite) as video:
        for motion in act(model, seconds, FPS):
            frame = actor.render(motion, size, coords=False)
            alpha = frame.matte[..., None].astype(np.float32) / 255
            video.write(np.round(frame.image * alpha + wall * (1 - alpha)).astype(np.uint8))


def _wall(size: int) -> npt.NDArray[np.float32]:
    gradient = np.linspace(_TOP, _BOTTOM, size).astype(np.float32)
    return cv2.GaussianBlur(np.repeat(gradient[:, None], size, 1), (0, 0), 3)
