"""What a user can choose when a portrait is animated; shared by the Python API and the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from megaportraits.errors import ConfigError

Color = tuple[int, int, int]
Faces = int | Literal["all"]
"""Which face of a source: counted from 1 from left to right, or `ALL_FACES`."""
ALL_FACES: Literal["all"] = "all"


KEY_GREEN: Color = (0, 177, 64)
"""What stands behind a person where a flat colour does and none was named: #00b140."""

_LEAST_HEAD = 256
"""Side of a head crop whose size nobody chose, at least, pixels."""
RANGES: dict[str, tuple[float, float]] = {
    "yaw": (-90, 90),
    "pitch": (-90, 90),
    "roll": (-180, 180),
    "expression_strength": (0, 3),
    "size": (16, 4096),
    "max_side": (64, 8192),
    "max_seconds": (0.001, 100_000),
    "face": (1, 1000),
    "driver_face": (1, 1000),
}
"""Lowest and highest value of every option that is a number."""


class MotionMode(StrEnum):
    """How the driver's motion is taken over."""

    ABSOLUTE = "absolute"
    """The driver's own pose and expression, as in the paper."""
    RELATIVE = "relative"
    """The source's pose and expression plus the driver's change from its own neutral frame; see `RestExpression`."""


class PoseFrom(StrEnum):
    """Who says how a head is turned."""

    NETWORK = "network"
    """The head-pose network of E_mtn, as in the paper."""
    LANDMARKS = "landmarks"
    """The fit of a canonical mesh to 478 landmarks: they are followed anyway, and were learned from real people."""


class ScaleFrom(StrEnum):
    """Whose head size the result has (paper, B.6)."""

    SOURCE = "source"
    DRIVER = "driver"


class TranslationFrom(StrEnum):
    """Whose place in the picture the head has (paper, B.6)."""

    SOURCE = "source"
    """The head stays where the photograph shows it, whatever the driver does."""
    DRIVER = "driver"


class RestExpression(StrEnum):
    """Whose face is seen while the driver's is at rest."""

    SOURCE = "source"
    """z_s + z_d - z_n: a photographed smile, or open mouth, stays under everything the driver does."""
    DRIVER = "driver"
    """z_d: the driver's own expression: a photographed mouth closes when the driver's is closed."""


class Background(StrEnum):
    """What stands behind the person."""

    SOURCE = "source"
    """The photo's own background, filled in where the head moves away."""
    DRIVER = "driver"
    """The driver's scene, with the driver's head removed."""
    COLOR = "color"
    TRANSPARENT = "transparent"


@dataclass(frozen=True)
class MotionOptions:
    """Control over pose and expression (paper, B.6); the defaults are the driver's own motion.

    Attributes:
        motion: see `MotionMode`.
        scale_from: see `ScaleFrom`.
        translation_from: see `TranslationFrom`.
        frontal: the head looks into the camera, whatever source and driver do; the expression still follows.
        yaw: degrees, turns the head to image right.
        pitch: degrees, turns it down.
        roll: degrees, tilts it counter-clockwise for the viewer. These three are one rotation `Rz Ry Rx`
            (docs/conventions.md) in camera axes, applied last: with `frontal` they are the head's exact pose.
        expression_strength: a factor on the change that is added to the source's own z: z_d - z_s, or z_d - z_n where
            the expression at rest is the source's. 0 keeps the source's expression exactly, 1 takes the change as
            it is, more exaggerates it.
        rest_expression: see `RestExpression`. None: the source's with relative motion, the driver's with absolute.

    Values are converted when the options are made, so that "relative" is as good as `MotionMode.RELATIVE`.

    Raises:
        ConfigError: a value is of another kind or out of its range.
    """

    motion: MotionMode = MotionMode.ABSOLUTE
    scale_from: ScaleFrom = ScaleFrom.DRIVER
    translation_from: TranslationFrom = TranslationFrom.DRIVER
    frontal: bool = False
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    expression_strength: float = 1.0
    rest_expression: RestExpression | None = None

    def __post_init__(self) -> None:
        # Here and not above: the command line takes its choices from this file and has to answer at once.
        from megaportraits.config.options import convert_options

        convert_options(self)
        for name, (low, high) in RANGES.items():
            value = getattr(self, name, None)
            if value is not None and not (name == "face" and value == ALL_FACES):
                _check_range(name, value, low, high)

    @property
    def rest(self) -> RestExpression:
        """Whose expression the driver's change is added to."""
        if self.rest_expression is not None:
            return self.rest_expression
        return RestExpression.SOURCE if self.motion is MotionMode.RELATIVE else RestExpression.DRIVER

    @property
    def needs_neutral(self) -> bool:
        """Whether the driver's neutral frame has to be known."""
        return self.motion is MotionMode.RELATIVE or self.rest is RestExpression.SOURCE


@dataclass(frozen=True)
class AnimateOptions(MotionOptions):
    """Choices of one animation; those about motion are `MotionOptions`'.

    Attributes:
        background: see `Background`; a flat colour and transparency show the head crop only.
        color: 0-255 RGB of `Background.COLOR`, or a text for `parse_color`, which is converted.
        crop: give the square head crop; otherwise it is pasted back into the whole picture.
        size: side of the head crop in the result, pixels; None: `head_size`.
        max_side: the whole picture is shrunk to this longest side.
        max_seconds: stop after this much of the driver; None takes all.
        face: which face of the source, counted from 1 from left to right; None takes the largest, "all" every one:
            heads then go back into the whole picture, so that `background` is the source's and `crop` is off.
        driver_face: which face of the driver, in its first frame that shows so many.

    Raises:
        ConfigError: a value is of another kind or out of its range.
    """

    background: Background = Background.SOURCE
    color: Color = KEY_GREEN
    crop: bool = False
    size: int | None = None
    max_side: int = 1280
    max_seconds: float | None = None
    face: Faces | None = None
    driver_face: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.color, str):
            object.__setattr__(self, "color", parse_color(self.color))
        super().__post_init__()
        for part in self.color:
            _check_range("color", part, 0, 255)
        if self.face == ALL_FACES and (self.crop or self.background is not Background.SOURCE):
            raise ConfigError(
                "face: all faces go back into the whole picture, but the head crop or another background was asked for",
                fix="Leave crop and background out, or choose one face.",
            )

    def head_size(self, made: int) -> int:
        """Side of the head crop in the result, pixels: `size`, else what the networks make (`made`), at least 256."""
        return max(_LEAST_HEAD, made) if self.size is None else self.size

    @property
    def transparent(self) -> bool:
        """Whether frames carry alpha."""
        return self.background is Background.TRANSPARENT

    @property
    def crop_only(self) -> bool:
        """Whether the result is the square head crop."""
        return self.crop or self.background in (Background.COLOR, Background.TRANSPARENT)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN, too
        raise ConfigError(f"{name}: expected a value from {low:g} to {high:g}, got {value:g}")


def parse_color(text: str) -> Color:
    """`#RRGGBB` (with or without #), or `rgb(r, g, b)` and `rgba(r, g, b, a)` as colour pickers say, to 0-255 RGB.

    Fractions are rounded; a, the opacity, is ignored.

    Raises:
        ConfigError: another form.
    """
    if re.fullmatch(r"#?[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text.removeprefix("#"))
        return red, green, blue
    number = r"\s*(\d+(?:\.\d*)?)\s*"
    if found := re.fullmatch(rf"rgb\({number},{number},{number}\)|rgba\({number},{number},{number},{number}\)", text):
        red, green, blue = (min(round(float(part)), 255) for part in [g for g in found.groups() if g][:3])
        return red, green, blue
    raise ConfigError(f"color: expected #RRGGBB, got {text!r}", fix='For example --color "#00b140".')
