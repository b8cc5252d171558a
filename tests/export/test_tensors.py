from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from megaportraits.export.tensors import flatten, rebuild


@dataclass(frozen=True)
class Inner:
    a: Tensor
    b: Tensor | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner
    c: Tensor
    extra: Tensor | None = None


def test_names_are_the_fields_with_dots_and_none_is_left_out() -> None:
    value = Outer(Inner(torch.zeros(1)), torch.ones(2))
    assert {name: len(tensor) for name, tensor in flatten(value).items()} == {"inner.a": 1, "c": 2}
    assert set(flatten(Outer(value.inner, value.c, torch.zeros(3)))) == {"inner.a", "c", "extra"}


def test_rebuilding_takes_new_tensors_and_keeps_what_is_not_given() -> None:
    value = Outer(Inner(torch.zeros(1), torch.full((1,), 5.0)), torch.ones(2))
    again = rebuild(value, {"inner.a": torch.full((1,), 7.0), "c": torch.full((2,), 8.0)})
    assert (again.inner.a.item(), again.c.tolist(), again.extra) == (7.0, [8.0, 8.0], None)
    assert again.inner.b is value.inner.b


def test_other_things_than_tensors_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"inner\.a.*str"):
        flatten(Outer(Inner("text"), torch.zeros(1)))  # type: ignore[arg-type]
