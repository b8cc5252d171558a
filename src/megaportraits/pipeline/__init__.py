"""The inference pipeline: `Avatar` animates a photograph with a driver.

Public names are imported on first use, so that code which only needs options or file checks does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from megaportraits.pipeline.avatar import Avatar
    from megaportraits.pipeline.compose import Rendering
    from megaportraits.pipeline.driver import FrameSource
    from megaportraits.pipeline.files import AnimateReport, animate_file
    from megaportraits.pipeline.frames import AnimatedFrame
    from megaportraits.pipeline.options import (
        KEY_GREEN,
        AnimateOptions,
        Background,
        MotionMode,
        MotionOptions,
        PoseFrom,
        RestExpression,
        ScaleFrom,
        TranslationFrom,
        parse_color,
    )
    from megaportraits.pipeline.plan import plan_output
    from megaportraits.pipeline.portrait import Portrait

__all__ = [
    "KEY_GREEN",
    "AnimateOptions",
    "AnimateReport",
    "AnimatedFrame",
    "Avatar",
    "Background",
    "FrameSource",
    "MotionMode",
    "MotionOptions",
    "Portrait",
    "PoseFrom",
    "Rendering",
    "RestExpression",
    "ScaleFrom",
    "TranslationFrom",
    "animate_file",
    "parse_color",
    "plan_output",
]

_MODULES = {
    "AnimateReport": "files",
    "AnimatedFrame": "frames",
    "Avatar": "avatar",
    "FrameSource": "driver",
    "Portrait": "portrait",
    "Rendering": "compose",
    "animate_file": "files",
    "plan_output": "plan",
}
"""The module that defines each public name. Names not listed here are defined in `options`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'options')}"), name)


def __dir__() -> list[str]:
    return __all__
