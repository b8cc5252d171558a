"""Parse options from the cells of a job list."""

from __future__ import annotations

import shlex

from megaportraits.errors import ConfigError


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
