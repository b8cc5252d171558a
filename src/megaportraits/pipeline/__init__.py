"""A photograph and a driver in, a moving portrait out: `Avatar` and everything around the network."""

from megaportraits.pipeline.avatar import AnimatedFrame, Avatar
from megaportraits.pipeline.compose import Rendering
from megaportraits.pipeline.driver import FrameSource
from megaportraits.pipeline.files import AnimateReport, animate_file, plan_output
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
