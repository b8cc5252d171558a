"""Converts and checks the values of option dataclasses when they are constructed."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from megaportraits.errors import ConfigError

T = TypeVar("T")


def convert_options(options: Any, *, keep: Collection[str] = ()) -> None:
    """Convert every field of a dataclass to the type that it is annotated with; call it in `__post_init__`.

    Strings become numbers, booleans, members of enumerations and paths, as in configs. So values from CSV files, HTTP
    requests and forms have the same meaning as in Python.

    Args:
        options: a dataclass instance, frozen or not.
        keep: fields that are not converted: images, functions, other objects.

    Raises:
        ConfigError: values that cannot be converted, all together.
    """
    kind: Any = type(options)
    wrong = []
    for name, adapter in _adapters(kind, frozenset(keep)).items():
        value = getattr(options, name)
        try:
            object.__setattr__(options, name, adapter.validate_python(value))
        except ValidationError as error:
            wrong.append(f"{name}: {_expected(error)}, got {_short(value)}")
    if wrong:
        raise ConfigError("; ".join(wrong), fix=f"--help and the documentation of {kind.__name__} list the values.")


def convert_option(name: str, kind: type[T], value: object) -> T:
    """Convert one value as `convert_options` does; the error message calls it `name`.

    Raises:
        ConfigError: the value cannot be converted.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{name}: {_expected(error)}, got {_short(value)}") from error


@cache
def _adapters(kind: Any, keep: frozenset[str]) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name]) for field in fields(kind) if field.name not in keep}


def _expected(error: ValidationError) -> str:
    """Pydantic's message, shortened. For a union it reports one problem for each member; these are joined by "or"."""
    problems = error.errors()
    members = [problem for problem in problems if len(problem["loc"]) == 1 and isinstance(problem["loc"][0], str)]
    said = [re.sub(", (unable|got) .*", "", problem["msg"]) for problem in members or problems[:1]]
    return " or ".join(dict.fromkeys(said)).replace("Input should be", "expected", 1).replace("Input should be ", "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
