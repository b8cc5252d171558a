"""Check inputs and outputs before any network is loaded. This module does not import torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath

from megaportraits.errors import ConfigError, MediaError
from megaportraits.media import (
    ALPHA_SUFFIXES,
    DEFAULT_LIMITS,
    STILL_SUFFIXES,
    VIDEO_SUFFIXES,
    Limits,
    check_output,
    is_video,
)
from megaportraits.media.credentials import SIGNED_SUFFIXES, check_signable
from megaportraits.media.files import output_file
from megaportraits.pipeline.options import ALL_FACES, AnimateOptions

STILL_ALPHA_SUFFIXES = (".png", ".webp")
_LONGEST_STEMS = 80
"""Maximum characters of several drivers' part in a generated name."""


def driver_files(driver: str | Path | Sequence[str | Path]) -> list[Path]:
    """The driver files as a list: one for all faces, or one for each face.

    Raises:
        MediaError: the list is empty.
    """
    files = [Path(driver)] if isinstance(driver, (str, Path)) else [Path(one) for one in driver]
    if not files:
        raise MediaError("expected a driver, got none", fix="Name a video or an image that shows the motion.")
    return files


def check_driver_count(drivers: Sequence[Path], options: AnimateOptions) -> None:
    """Refuse several drivers for one face.

    Raises:
        ConfigError: several drivers, and `options.face` is not "all".
    """
    if len(drivers) > 1 and options.face != ALL_FACES:
        raise ConfigError(
            f"Expected one driver for one face, got {len(drivers)}.",
            fix="Set face to all (--face all) to move every face by its own driver, or make a result of each driver"
            " (--out DIR).",
        )


def check_distinct(output: PurePath, side_by_side: PurePath | None) -> None:
    """Refuse one name for both results.

    Raises:
        ConfigError: they are the same.
    """
    if output == side_by_side:
        raise ConfigError(f"{output}: output and side-by-side name the same file", fix="Give two names.")


def joined_stems(drivers: Sequence[Path]) -> str:
    """The drivers' part of a result's name: their stems, or the first and the number of the others if that is long."""
    whole = "+".join(file.stem for file in drivers)
    if len(whole) <= _LONGEST_STEMS or len(drivers) == 1:
        return whole
    return f"{drivers[0].stem[:_LONGEST_STEMS]}+{len(drivers) - 1}"


def result_suffixes(options: AnimateOptions, *, moving: bool) -> tuple[str, ...]:
    """Endings that a result may have, the default first; `moving`: whether a driver is a video."""
    if moving:
        return ALPHA_SUFFIXES if options.transparent else VIDEO_SUFFIXES
    return STILL_ALPHA_SUFFIXES if options.transparent else STILL_SUFFIXES


def result_name(source: str, driver: str, options: AnimateOptions, *, moving: bool, signed: bool = False) -> str:
    """The name of a result in a folder: SOURCE_DRIVER and `result_suffixes`' first, of a kind that can be `signed`."""
    fitting = result_suffixes(options, moving=moving)
    return f"{source}_{driver}{next(suffix for suffix in fitting if not signed or suffix in SIGNED_SUFFIXES)}"


def plan_output(
    source: Path,
    driver: Path | Sequence[Path],
    output: str | Path | None,
    options: AnimateOptions,
    *,
    side_by_side: Path | None = None,
    overwrite: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    signed: bool = False,
) -> Path:
    """Check inputs and outputs before any network is loaded.

    Args:
        source: see `animate_file`.
        driver: see `animate_file`.
        output: a file, or a folder for it; None: the current folder.
        options: see `AnimateOptions`.
        side_by_side: see `animate_file`.
        overwrite: whether existing files may be replaced.
        limits: limits on the size of the source and the drivers.
        signed: whether the outputs will carry content credentials.

    Returns:
        The output file. If `output` is a folder (see `output_file`), or None for the current folder, the file is
        SOURCE_DRIVER.mp4 in it (.webm if transparent, .mov if also signed, .png for a still driver).

    Raises:
        ConfigError: several drivers for one face, or one name for both outputs.
        MediaError: an input cannot be read, an input exceeds a limit, an output may not be written or has a suffix
            that does not fit.
    """
    drivers = driver_files(driver)
    check_driver_count(drivers, options)
    filmed, *kinds = [is_video(path, limits) for path in (source, *drivers)]  # checks every file
    moving = any(kinds)
    suffixes = result_suffixes(options, moving=moving)
    name = result_name(source.stem, joined_stems(drivers), options, moving=moving, signed=signed)
    output = output_file(output or Path(), name)
    beside = (VIDEO_SUFFIXES if moving else STILL_SUFFIXES) if side_by_side else ()
    for path, fitting in ((output, suffixes), (side_by_side, beside)):
        if path is None:
            continue
        check_output(path, overwrite=overwrite, inputs=(source, *drivers))
        if path.suffix.lower() not in fitting:
            kind = "a video" if moving else "a still image"
            look = " with transparency" if options.transparent and path is output else ""
            raise MediaError(
                f"{path}: the driver is {kind}, so the output must be {kind}{look}; got {path.suffix!r}",
                fix=swap_question(source, drivers[0], filmed=filmed, moving=moving) or f"Name it {', '.join(fitting)}.",
            )
        if signed:
            check_signable(path)
    check_distinct(output.absolute(), None if side_by_side is None else side_by_side.absolute())
    return output


def swap_question(source: str | Path, driver: str | Path, *, filmed: bool, moving: bool) -> str:
    """A hint that the two may be swapped; "" unless the source is a video (`filmed`) and the driver an image."""
    if not filmed or moving:
        return ""
    line = f"megaportraits animate {shlex.quote(str(driver))} {shlex.quote(str(source))}"
    return f"The source is a video and the driver a picture: were they swapped? Then: {line}"
