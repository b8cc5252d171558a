"""The demo: a rendered head drives a photograph of an astronaut. Both may be published freely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import skimage.data

from megaportraits.media import VideoReader, check_outputs, write_image
from megaportraits.media.credentials import Credentials
from megaportraits.media.images import UInt8
from megaportraits.ops.pictures import resize
from megaportraits.pipeline.avatar import Avatar
from megaportraits.pipeline.files import Marks, OnProgress, animate_file
from megaportraits.pipeline.options import AnimateOptions

_COLUMNS = 6


@dataclass(frozen=True)
class DemoFiles:
    """What the demo wrote.

    Attributes:
        portrait: the photograph.
        result: the animated photograph.
        side_by_side: video of source crop, driver crop and result in a row.
        contact: contact sheet: the photograph, and driver crops above results at several times.
    """

    portrait: Path
    result: Path
    side_by_side: Path
    contact: Path


def demo_portrait() -> UInt8:
    """Eileen Collins, (512, 512, 3): NASA's portrait, in the public domain, as scikit-image ships it."""
    return np.ascontiguousarray(skimage.data.astronaut())


def demo_driver() -> Path:
    """The driver shipped with the package: four seconds of a procedurally rendered head, not of a real person."""
    return Path(str(resources.files("megaportraits") / "assets" / "demo" / "driver.mp4"))


def plan_demo(out: Path, *, overwrite: bool = False) -> DemoFiles:
    """The files that `run_demo` writes.

    Raises:
        MediaError: one exists and `overwrite` is false, or `out` is a file.
    """
    names = ("portrait.png", "result.mp4", "side_by_side.mp4", "contact.png")
    return DemoFiles(*check_outputs(out, names, overwrite=overwrite))


def run_demo(
    avatar: Avatar,
    out: Path,
    options: AnimateOptions | None = None,
    *,
    overwrite: bool = False,
    progress: OnProgress | None = None,
    credentials: Credentials | None = None,
) -> DemoFiles:
    """Animate the demo's photograph with the demo's driver.

    Args:
        avatar: the model.
        out: folder to write to; created if missing.
        options: see `AnimateOptions`.
        overwrite: whether files of an earlier demo in `out` may be replaced.
        progress: called with the frames done and the frames expected.
        credentials: sign the results and the contact sheet with these; None: they are not signed.

    Raises:
        MediaError: see `plan_demo`; the folder cannot be written.
    """
    files = plan_demo(out, overwrite=overwrite)
    portrait = demo_portrait()
    write_image(files.portrait, portrait, overwrite=overwrite)
    report = animate_file(
        avatar,
        files.portrait,
        demo_driver(),
        files.result,
        options,
        side_by_side=files.side_by_side,
        overwrite=overwrite,
        progress=progress,
        credentials=credentials,
    )
    if report.interrupted:
        raise KeyboardInterrupt
    rows = [frame.image for frame in VideoReader(files.side_by_side)]
    marks = Marks.of(avatar, files.portrait, credentials)
    write_image(
        files.contact, contact_sheet(portrait, rows), overwrite=overwrite, note=marks.note, sign=marks.sign_beside
    )
    return files


def contact_sheet(portrait: UInt8, rows: Sequence[UInt8], columns: int = _COLUMNS) -> UInt8:
    """The photograph large on the left; on the right driver crops above results at evenly spread times.

    Args:
        portrait: (H, H, 3).
        rows: side-by-side frames (N, 3 N, 3): source, driver, result.
        columns: how many times are shown, at most.

    Returns:
        (2 N, (2 + columns) N, 3).
    """
    side = rows[0].shape[0]
    columns = min(columns, len(rows))
    # The first and last frames are left out: the driver is near its neutral expression there.
    times = np.linspace(0, len(rows) - 1, columns + 2).round().astype(int)[1:-1]
    cells = [np.concatenate([rows[i][:, side : 2 * side], rows[i][:, 2 * side :]]) for i in times]
    large = resize(portrait, 2 * side)
    return np.concatenate([large, *cells], axis=1)
