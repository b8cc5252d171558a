"""Flatten nested dataclasses of tensors to named tensors, the inputs and outputs of a graph, and rebuild them.

The code is generic: a tensor that is added to `Identity` becomes an input without changes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

from torch import Tensor

T = TypeVar("T")


def flatten(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a dataclass by dotted field names, in the order of its fields. Fields that are None are left out.

    Raises:
        TypeError: a field is neither a tensor, None, nor such a dataclass.
    """
    if value is None:
        return {}
    if isinstance(value, Tensor):
        return {prefix: value}
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{prefix or 'value'}: expected tensors in dataclasses, got {type(value).__name__}")
    found: dict[str, Tensor] = {}
    for field in fields(value):
        name = f"{prefix}.{field.name}" if prefix else field.name
        found |= flatten(getattr(value, field.name), name)
    return found


def rebuild(example: T, tensors: Mapping[str, Tensor], prefix: str = "") -> T:
    """A dataclass like `example` with other tensors.

    Args:
        example: gives the structure.
        tensors: tensors by the names that `flatten` gives; for a missing one the example's own is used.
        prefix: prefix of the names.
    """
    if example is None:
        return example
    if isinstance(example, Tensor):
        return cast(T, tensors.get(prefix, example))
    values = {}
    for field in fields(cast(Any, example)):
        name = f"{prefix}.{field.name}" if prefix else field.name
        values[field.name] = rebuild(getattr(example, field.name), tensors, name)
    return type(example)(**values)
