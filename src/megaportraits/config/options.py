"""Options in code: dataclasses whose values are converted and checked when they are made."""

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

    Texts become numbers, truth values, members of enumerations and paths, as in configs. So values of CSV files, HTTP
    requests and forms mean what the same values mean in Python.

    Args:
        options: a dataclass instance, frozen or not.
        keep: fields that are taken as they are: pictures, functions, other objects.

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
    """One value converted as `convert_options` does it; `name` is for the message.

    Raises:
        ConfigError: it cannot be converted.
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
    """The problem in our words. For a union pydantic reports one problem for each member: they are joined by "or"."""
    problems = error.errors()
    members = [problem for problem in problems if len(problem["loc"]) == 1 and isinstance(problem["loc"][0], str)]
    said = [re.sub(", (unable|got) .*", "", problem["msg"]) for problem in members or problems[:1]]
    return " or ".join(dict.fromkeys(said)).replace("Input should be", "expected", 1).replace("Input should be ", "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
