"""A photograph and a driver in, a moving portrait out: `Avatar` and everything around the network."""

from megaportraits.pipeline.avatar import AnimatedFrame, Avatar
from megaportraits.pipeline.compose import Rendering
from megaportraits.pipeline.driver import FrameSource
from megaportraits.pipeline.files import AnimateReport, animate_file, plan_output
from megaportraits.pipeline.options import (
    AnimateOptions,
    Background,
    MotionMode,
    PoseFrom,
    ScaleFrom,
    parse_color,
)
from megaportraits.pipeline.portrait import Portrait

__all__ = [
    "AnimateOptions",
    "AnimateReport",
    "AnimatedFrame",
    "Avatar",
    "Background",
    "FrameSource",
    "MotionMode",
    "Portrait",
    "PoseFrom",
    "Rendering",
    "ScaleFrom",
    "animate_file",
    "parse_color",
    "plan_output",
]
