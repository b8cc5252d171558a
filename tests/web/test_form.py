"""The page's controls and `AnimateOptions` have the same fields, ranges and defaults."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from megaportraits.errors import ConfigError
from megaportraits.pipeline.options import RANGES, AnimateOptions, Background, MotionMode, RestExpression

gr = pytest.importorskip("gradio", reason="the web extra is not installed")
form = pytest.importorskip("megaportraits.web.form")


@pytest.fixture(scope="module")
def controls() -> dict[str, Any]:
    with gr.Blocks(analytics_enabled=False):
        return form.main_controls() | form.advanced_controls()


def test_every_option_has_a_control_and_every_value_words(controls: dict[str, Any]) -> None:
    assert set(controls) | {"face"} == {field.name for field in fields(AnimateOptions)}
    for kind, words in form.WORDS.items():
        assert set(words) == set(kind)


def test_transparency_is_not_offered_where_results_are_signed() -> None:
    with gr.Blocks(analytics_enabled=False):
        offered = [form.main_controls(transparent=kept)["background"].choices for kept in (True, False)]
    assert {value for _, value in offered[0]} - {value for _, value in offered[1]} == {"transparent"}


def test_untouched_controls_are_the_options_own_defaults_but_for_the_heads_size(controls: dict[str, Any]) -> None:
    untouched = {name: control.value for name, control in controls.items()}
    assert form.read_options(untouched) == replace(AnimateOptions(), size=form.HEAD_SIZE)
    assert form.read_options({**untouched, "face": None, "max_seconds": None}) == form.read_options(untouched)


def test_controls_reach_as_far_as_the_options(controls: dict[str, Any]) -> None:
    for name, (low, high) in RANGES.items():
        if name != "face":
            control = controls[name]
            assert control.minimum in (low, 0) and control.maximum in (high, None), name


def test_what_controls_say_is_what_options_get() -> None:
    said = {"motion": "relative", "background": "color", "color": "#0a0b0c", "crop": True, "face": 2}
    said |= {"yaw": 20, "rest_expression": "driver", "size": 256.0, "max_seconds": 1.5, "driver_face": ""}
    assert form.read_options(said) == AnimateOptions(
        motion=MotionMode.RELATIVE,
        background=Background.COLOR,
        color=(10, 11, 12),
        crop=True,
        face=2,
        yaw=20,
        rest_expression=RestExpression.DRIVER,
        size=256,
        max_seconds=1.5,
    )
    assert form.read_options({**said, "color": "rgba(0.4, 176.8, 255, 1)"}).color == (0, 177, 255)
    assert form.read_options({"background": "source", "color": "#0a0b0c"}) == AnimateOptions()  # its control is hidden


@pytest.mark.parametrize(
    "wrong",
    [
        {"color": "red", "background": "color"},
        {"color": "rgba(1)", "background": "color"},
        {"yaw": 91},
        {"motion": "sideways"},
        {"size": "wide"},
        {"yaw": "x"},
        {"max_seconds": -1},
    ],
)
def test_what_no_control_can_say_is_reported(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        form.read_options(wrong)
