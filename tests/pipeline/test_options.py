"""Options of an animation: conversion of enumerations, numbers and colours from any input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from megaportraits.errors import ConfigError
from megaportraits.pipeline.options import (
    AnimateOptions,
    Background,
    MotionMode,
    MotionOptions,
    RestExpression,
    ScaleFrom,
    TranslationFrom,
    parse_color,
)


def test_texts_mean_what_the_enumerations_mean() -> None:
    words: dict[str, Any] = {
        "motion": "relative",
        "scale_from": "source",
        "translation_from": "source",
        "rest_expression": "driver",
        "background": "transparent",
        "color": "#0a0b0c",
        "frontal": "no",
        "yaw": "12.5",
        "face": "2",
    }
    said = AnimateOptions(**words)
    assert said == AnimateOptions(
        motion=MotionMode.RELATIVE,
        scale_from=ScaleFrom.SOURCE,
        translation_from=TranslationFrom.SOURCE,
        rest_expression=RestExpression.DRIVER,
        background=Background.TRANSPARENT,
        color=(10, 11, 12),
        yaw=12.5,
        face=2,
    )
    assert said.motion is MotionMode.RELATIVE and said.needs_neutral
    assert said.background is Background.TRANSPARENT and said.transparent and said.crop_only
    assert said.frontal is False


def test_replaced_values_are_converted_and_checked_too() -> None:
    words: dict[str, Any] = {"motion": "relative"}
    assert replace(MotionOptions(), **words).needs_neutral
    with pytest.raises(ConfigError, match="pitch"):
        replace(MotionOptions(), pitch=91)


def test_numpy_numbers_and_arrays_are_numbers_and_colours() -> None:
    numbers: dict[str, Any] = {"yaw": np.float32(20), "size": np.int64(64), "color": np.array([1, 2, 3])}
    options = AnimateOptions(**numbers)
    assert options == AnimateOptions(yaw=20, size=64, color=(1, 2, 3))
    assert type(options.size) is int and type(options.color) is tuple


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"scale_from": "sauce"}, "scale_from: expected 'source' or 'driver', got 'sauce'"),
        ({"motion": None}, "motion: expected 'absolute' or 'relative', got None"),
        ({"background": "green"}, "background: expected 'source', 'driver', 'color' or 'transparent', got 'green'"),
        ({"frontal": "maybe"}, "frontal: expected a valid boolean, got 'maybe'"),
        ({"yaw": "left"}, "yaw: expected a valid number, got 'left'"),
        ({"yaw": float("nan")}, "yaw: expected a value from -90 to 90, got nan"),
        ({"face": "none"}, "face: expected a valid integer or 'all', got 'none'"),
        ({"size": 64.5}, "size: expected a valid integer, got 64.5"),
        ({"color": "red"}, "color: expected #RRGGBB"),
        ({"color": "rgb(1, 2)"}, "color: expected #RRGGBB"),
        ({"color": (1, 2)}, "color: "),
        ({"color": (0, 0, 256)}, "color: expected a value from 0 to 255, got 256"),
        ({"max_seconds": float("inf")}, "max_seconds: expected a value from"),
        ({"motion": "x", "yaw": "y"}, "motion: expected 'absolute' or 'relative', got 'x'; yaw: expected"),
    ],
)
def test_invalid_options_are_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AnimateOptions(**wrong)
    assert caught.value.message.startswith(said)


def test_a_head_is_as_large_as_asked_for_or_as_it_is_made_but_not_tiny() -> None:
    assert [AnimateOptions().head_size(made) for made in (128, 256, 512)] == [256, 256, 512]
    assert AnimateOptions(size=64).head_size(512) == 64


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("#00b140", (0, 177, 64)),
        ("00B140", (0, 177, 64)),
        ("rgb(1,2, 3)", (1, 2, 3)),
        ("rgba(0.4, 176.8, 300, 1)", (0, 177, 255)),
    ],
)
def test_colours_are_read_as_pickers_write_them(text: str, color: tuple[int, int, int]) -> None:
    assert parse_color(text) == color


def test_values_that_are_not_given_keep_the_base_and_unknown_names_are_refused() -> None:
    base = AnimateOptions(motion=MotionMode.RELATIVE, yaw=10)
    assert AnimateOptions.of({"yaw": "20", "size": None}, base) == replace(base, yaw=20)
    assert AnimateOptions.of({}) == AnimateOptions()
    with pytest.raises(ConfigError, match="Expected an option, got 'turn'"):
        AnimateOptions.of({"turn": 3})


def test_a_colour_that_no_background_shows_is_refused() -> None:
    assert AnimateOptions.of({"color": "#0a0b0c"}, AnimateOptions(background=Background.COLOR)).color == (10, 11, 12)
    with pytest.raises(ConfigError, match="color: expected with the background color, got the background source"):
        AnimateOptions.of({"color": "#0a0b0c"})
