"""Parse options from the cells of a job list."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from megaportraits.errors import ConfigError
from megaportraits.pipeline.options import AnimateOptions

NAMES = tuple(field.name for field in fields(AnimateOptions))


def options_of(cells: Mapping[str, str], base: AnimateOptions) -> AnimateOptions:
    """Options with the values of some cells.

    Args:
        cells: names of `AnimateOptions`' fields, and texts.
        base: values of all other options.

    Raises:
        ConfigError: an unknown name, or a value that does not fit.
    """
    for name in cells:
        if name not in NAMES:
            raise ConfigError(f"Expected an option, got {name!r}.", fix=f"Options are {', '.join(sorted(NAMES))}.")
    changes: dict[str, Any] = dict(cells)
    return replace(base, **changes)


def split_options(text: str) -> dict[str, str]:
    """Options as on the command line, for example `--motion relative --frontal`, by name.

    Raises:
        ConfigError: anything else.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"options: {text!r} cannot be read ({error})") from error
    found: dict[str, str] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            name = name.replace("-", "_")
            # A switch stands alone; for an option with a value the next word replaces this.
            found[name] = value or "true"
        elif name:
            found[name] = word
            name = ""
        else:
            raise ConfigError(
                f"options: expected --name value, got {word!r}", fix="For example --motion relative --frontal."
            )
    return found
