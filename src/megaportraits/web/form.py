"""The controls of the page: one for every field of `AnimateOptions`, with everyday labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import gradio as gr

from megaportraits.pipeline.options import (
    RANGES,
    AnimateOptions,
    Background,
    MotionMode,
    RestExpression,
    ScaleFrom,
    TranslationFrom,
)

HEAD_SIZE = 512
"""Side of the page's head crop in pixels: the size up to which the shipped model copies the photograph's own pixels."""
_DEFAULTS = AnimateOptions()
_OF_VIDEO, _OF_PHOTO = "as in the video", "as in the photograph"
WORDS: dict[type[StrEnum], dict[StrEnum, str]] = {
    MotionMode: {
        MotionMode.ABSOLUTE: "Exactly like the video",
        MotionMode.RELATIVE: "Start from the photograph's own pose and expression",
    },
    Background: {
        Background.SOURCE: "The photograph's",
        Background.DRIVER: "The video's",
        Background.COLOR: "A colour",
        Background.TRANSPARENT: "Transparent",
    },
    ScaleFrom: {ScaleFrom.DRIVER: _OF_VIDEO, ScaleFrom.SOURCE: _OF_PHOTO},
    TranslationFrom: {TranslationFrom.DRIVER: _OF_VIDEO, TranslationFrom.SOURCE: _OF_PHOTO},
    RestExpression: {RestExpression.SOURCE: "the photograph's", RestExpression.DRIVER: "the video's"},
}
"""Labels of the values of every choice."""
_AS_FITS = "as fits the motion"
_MAY_BE_NONE = ("face", "driver_face", "max_seconds")


def main_controls(*, transparent: bool = True) -> dict[str, gr.Component]:
    """The basic controls, by field of `AnimateOptions`; `transparent`: whether that background is offered."""
    motion = _radio(MotionMode, _DEFAULTS.motion, "Motion")
    background = _radio(
        Background,
        _DEFAULTS.background,
        "Background",
        f"With a colour{' or transparency' if transparent else ''} only the head is shown.",
        without=() if transparent else (Background.TRANSPARENT,),
    )
    color = gr.ColorPicker(_hex(_DEFAULTS), label="Colour of the background", visible=False)
    crop = gr.Radio([("The whole photograph", False), ("The head alone", True)], value=_DEFAULTS.crop, label="Picture")
    background.change(
        lambda chosen: (
            gr.update(visible=chosen == Background.COLOR),
            gr.update(visible=chosen in (Background.SOURCE, Background.DRIVER)),
        ),
        background,
        [color, crop],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return {"motion": motion, "background": background, "color": color, "crop": crop}


def advanced_controls() -> dict[str, gr.Component]:
    """The other controls, except `face`, which is next to the photograph."""
    with gr.Row():
        scale_from = _radio(ScaleFrom, _DEFAULTS.scale_from, "Size of the head")
        translation_from = _radio(TranslationFrom, _DEFAULTS.translation_from, "Position of the head")
    frontal = gr.Checkbox(
        _DEFAULTS.frontal,
        label="Always look into the camera",
        info="The head does not turn; the face still moves.",
    )
    yaw = _slider("yaw", 1, "Turn", "Degrees, to the right of the picture. Beyond 30 faces begin to distort.")
    pitch = _slider("pitch", 1, "Nod", "Degrees, down.")
    roll = _slider("roll", 1, "Tilt", "Degrees, counter-clockwise.")
    strength = _slider(
        "expression_strength", 0.05, "Strength of the expression", "0: the photograph's. 1: the video's. 2: twice."
    )
    rest = gr.Radio(
        [(_AS_FITS, ""), *((words, value.value) for value, words in WORDS[RestExpression].items())],
        value="",
        label="Expression while the video's face is neutral",
        info="The video's: a photographed smile or open mouth does not stay.",
    )
    with gr.Row():
        size = _number("size", HEAD_SIZE, "Width of the head alone", "Pixels.")
        max_side = _number("max_side", _DEFAULTS.max_side, "Longest side of the photograph", "Pixels.")
    with gr.Row():
        driver_face = _number("driver_face", 0, "Person in the video", "Counted from the left; 0: the largest.")
        max_seconds = _number("max_seconds", 0, "Seconds of the video", "0: all of it.", whole=False)
    return {
        "scale_from": scale_from,
        "translation_from": translation_from,
        "frontal": frontal,
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "expression_strength": strength,
        "rest_expression": rest,
        "size": size,
        "max_side": max_side,
        "driver_face": driver_face,
        "max_seconds": max_seconds,
    }


def read_options(values: Mapping[str, Any]) -> AnimateOptions:
    """Options from the controls' values, by field; a control without a value has the default. For fields that may be
    None, 0 means no value. The colour is used only with the background for which its control is shown.

    Raises:
        ConfigError: a value is out of range or has a wrong type.
    """
    none = {name: (None, "", 0) if name in _MAY_BE_NONE else (None, "") for name in values}
    given = {name: value for name, value in values.items() if value not in none[name]}
    if given.get("background") != Background.COLOR:
        given.pop("color", None)
    return AnimateOptions.of(given)


def _radio(
    kind: type[StrEnum], value: StrEnum, label: str, info: str | None = None, *, without: Sequence[StrEnum] = ()
) -> gr.Radio:
    choices = [(WORDS[kind][member], member.value) for member in kind if member not in without]
    return gr.Radio(sorted(choices, key=lambda choice: choice[1] != value), value=value.value, label=label, info=info)


def _slider(name: str, step: float, label: str, info: str) -> gr.Slider:
    low, high = RANGES[name]
    return gr.Slider(low, high, value=getattr(_DEFAULTS, name), step=step, label=label, info=info)


def _number(name: str, value: float, label: str, info: str, *, whole: bool = True) -> gr.Number:
    """A number; 0 means None, because browsers turn an empty field into 0."""
    low, high = RANGES[name]
    return gr.Number(
        value,
        minimum=low if value else 0,
        maximum=high if high < float("inf") else None,
        precision=0 if whole else None,
        label=label,
        info=info,
    )


def _hex(options: AnimateOptions) -> str:
    return "#" + bytes(options.color).hex()
