"""Checks of inputs and outputs before any network is loaded; imports no torch."""

from __future__ import annotations

import shlex
from pathlib import Path

from megaportraits.errors import MediaError
from megaportraits.media import ALPHA_SUFFIXES, DEFAULT_LIMITS, VIDEO_SUFFIXES, Limits, check_output, is_video
from megaportraits.media.files import output_file
from megaportraits.pipeline.options import AnimateOptions

STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
STILL_ALPHA_SUFFIXES = (".png", ".webp")


def plan_output(
    source: Path,
    driver: Path,
    output: str | Path | None,
    options: AnimateOptions,
    *,
    side_by_side: Path | None = None,
    overwrite: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Path:
    """Check inputs and outputs before any network is loaded.

    Returns:
        `output`; where it is a folder (see `output_file`), or None and so the current folder, SOURCE_DRIVER.mp4 in it
        (.webm when transparent, .png for a still driver).

    Raises:
        MediaError: an input cannot be read, an input exceeds a limit, an output may not be written or has a suffix
            that does not fit.
    """
    filmed = is_video(source, limits)
    moving = is_video(driver, limits)
    if moving:
        suffixes = ALPHA_SUFFIXES if options.transparent else VIDEO_SUFFIXES
    else:
        suffixes = STILL_ALPHA_SUFFIXES if options.transparent else STILL_SUFFIXES
    output = output_file(output or Path(), f"{source.stem}_{driver.stem}{suffixes[0]}")
    beside = (VIDEO_SUFFIXES if moving else STILL_SUFFIXES) if side_by_side else ()
    for path, fitting in ((output, suffixes), (side_by_side, beside)):
        if path is None:
            continue
        if path.suffix.lower() not in fitting:
            kind = "a video" if moving else "a still image"
            look = " with transparency" if options.transparent and path is output else ""
            raise MediaError(
                f"{path}: the driver is {kind}, so the output must be {kind}{look}; got {path.suffix!r}",
                fix=swap_question(source, driver, filmed=filmed, moving=moving) or f"Name it {', '.join(fitting)}.",
            )
        check_output(path, overwrite=overwrite, inputs=(source, driver))
    if side_by_side is not None and side_by_side.absolute() == output.absolute():
        raise MediaError(f"{output}: output and side-by-side name the same file", fix="Give two names.")
    return output


def swap_question(source: str | Path, driver: str | Path, *, filmed: bool, moving: bool) -> str:
    """Asks whether the two were swapped, where the source is a video (`filmed`) and the driver a picture; else ""."""
    if not filmed or moving:
        return ""
    line = f"megaportraits animate {shlex.quote(str(driver))} {shlex.quote(str(source))}"
    return f"The source is a video and the driver a picture: were they swapped? Then: {line}"
