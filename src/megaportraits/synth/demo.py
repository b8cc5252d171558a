"""Procedural people for demos: a talking driver, and portraits. They show no real person and can be redistributed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.media import VideoWriter, write_image
from megaportraits.ops.pictures import composite
from megaportraits.synth.acting import act
from megaportraits.synth.cg import CgCast
from megaportraits.synth.head import MorphableHead
from megaportraits.synth.stage import HeadMotion, SynthFrame

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
    with VideoWriter(out, fps=FPS, overwrite=overwrite) as video:
        for motion in act(model, seconds, FPS):
            video.write(_before_wall(actor.render(motion, size, coords=False)))


def render_portrait(head: Path, out: Path, *, size: int = 448, person: int = 82, overwrite: bool = False) -> None:
    """Write one procedural person, looking into the camera at rest, as a picture; arguments as `render_driver`'s."""
    model = MorphableHead.load(head)
    rest = HeadMotion.about_neck(model.coefficients({}), (0, 0), np.eye(3))
    write_image(out, _before_wall(CgCast(model).person(person).render(rest, size, coords=False)), overwrite=overwrite)


def _before_wall(frame: SynthFrame) -> npt.NDArray[np.uint8]:
    return composite(frame.image, frame.matte, _wall(frame.image.shape[0]))


@cache
def _wall(size: int) -> npt.NDArray[np.float32]:
    gradient = np.linspace(_TOP, _BOTTOM, size).astype(np.float32)
    return cv2.GaussianBlur(np.repeat(gradient[:, None], size, 1), (0, 0), 3)
