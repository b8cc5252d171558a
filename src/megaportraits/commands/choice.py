"""Repeatable options with a closed set of values."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

import typer


def repeatable_choice(kind: Any, *names: str, help: str) -> Any:
    """An option for `Annotated[list[str] | None, ...]` whose every value must be one of a `Literal`'s.

    Typer accepts a Literal for a single value only. As with a Literal, `--help` shows the choices.

    Args:
        kind: the `Literal`.
        names: of the option, as in `typer.Option`.
        help: as in `typer.Option`.
    """
    values = get_args(kind)
    return typer.Option(*names, help=help, metavar=f"<{'|'.join(values)}>", parser=partial(_parse, values))


def _parse(values: tuple[str, ...], text: str) -> str:
    if text not in values:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(repr, values))}.")
    return text
