"""Options of an animation, shared by the Python API and the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Literal

from megaportraits.errors import ConfigError

Color = tuple[int, int, int]
Faces = int | Literal["all"]
"""Which face of a source: counted from 1 from left to right, or `ALL_FACES`."""
ALL_FACES: Literal["all"] = "all"


KEY_GREEN: Color = (0, 177, 64)
"""The default of the flat background colour: #00b140."""

_LEAST_HEAD = 256
"""Smallest default side of the head crop, pixels."""
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
"""Lowest and highest value of every numeric option."""


class MotionMode(StrEnum):
    """How the driver's motion is applied to the source."""

    ABSOLUTE = "absolute"
    """The driver's own pose and expression, as in the paper."""
    RELATIVE = "relative"
    """The source's pose and expression plus the driver's change from its own neutral frame; see `RestExpression`."""


class PoseFrom(StrEnum):
    """How head poses are estimated."""

    NETWORK = "network"
    """The head-pose network of E_mtn, as in the paper."""
    LANDMARKS = "landmarks"
    """A fit of a canonical mesh to 478 landmarks. Face tracking computes them anyway, and its network was trained on
    real people."""


class ScaleFrom(StrEnum):
    """Which image sets the head's scale in the result (paper, B.6)."""

    SOURCE = "source"
    DRIVER = "driver"


class TranslationFrom(StrEnum):
    """Which image sets the head's position in the result (paper, B.6)."""

    SOURCE = "source"
    """The head stays where it is in the source, whatever the driver does."""
    DRIVER = "driver"


class RestExpression(StrEnum):
    """Which expression the result has while the driver's expression is neutral."""

    SOURCE = "source"
    """z_s + z_d - z_n: the driver's change is added to the source's expression, so that a smile in the source stays."""
    DRIVER = "driver"
    """z_d, the driver's own expression: a mouth that is open in the source closes when the driver's is closed."""


class Background(StrEnum):
    """The background behind the person."""

    SOURCE = "source"
    """The source's own background, filled in where the head moves away."""
    DRIVER = "driver"
    """The driver's scene, with the driver's head removed."""
    COLOR = "color"
    TRANSPARENT = "transparent"


@dataclass(frozen=True)
class MotionOptions:
    """Control over pose and expression (paper, B.6); the defaults give the driver's own motion.

    Attributes:
        motion: see `MotionMode`.
        scale_from: see `ScaleFrom`.
        translation_from: see `TranslationFrom`.
        frontal: replace the head's rotation by a frontal one; the expression still follows the driver.
        yaw: degrees, turns the head to image right.
        pitch: degrees, turns the head down.
        roll: degrees, tilts the head counter-clockwise for the viewer. These three are one rotation `Rz Ry Rx`
            (docs/conventions.md) in camera axes, applied last: with `frontal` they are the head's exact pose.
        expression_strength: factor on the change that is added to the source's own z: z_d - z_s, or z_d - z_n where
            `rest` is the source. 0 keeps the source's expression exactly, 1 applies the change unscaled, larger values
            exaggerate it.
        rest_expression: see `RestExpression`. None: the source's with relative motion, the driver's with absolute.

    Strings are converted to enum members, so that "relative" and `MotionMode.RELATIVE` are equivalent.

    Raises:
        ConfigError: a value has the wrong type or is out of range.
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
        # Imported here to keep the start of the command line fast, which imports this file for its choices.
        from megaportraits.config.options import convert_options

        convert_options(self)
        for name, (low, high) in RANGES.items():
            value = getattr(self, name, None)
            if value is not None and not (name == "face" and value == ALL_FACES):
                _check_range(name, value, low, high)

    @property
    def rest(self) -> RestExpression:
        """`rest_expression`, with its default resolved."""
        if self.rest_expression is not None:
            return self.rest_expression
        return RestExpression.SOURCE if self.motion is MotionMode.RELATIVE else RestExpression.DRIVER

    @property
    def needs_neutral(self) -> bool:
        """Whether these options need the driver's neutral frame."""
        return self.motion is MotionMode.RELATIVE or self.rest is RestExpression.SOURCE


@dataclass(frozen=True)
class AnimateOptions(MotionOptions):
    """Options of one animation, in addition to those of `MotionOptions`.

    Attributes:
        background: see `Background`; with a flat colour or transparency the result is the head crop only.
        color: RGB, 0-255, of `Background.COLOR`, or a string that `parse_color` accepts.
        crop: return the square head crop; otherwise the head is pasted back into the whole image.
        size: side of the head crop in the result, pixels; None: see `head_size`.
        max_side: the whole image is shrunk to this length of its longer side, pixels.
        max_seconds: use only this much of the driver, seconds; None: all of it.
        face: which face of the source, counted from 1 from left to right; None: the largest; "all": every face. With
            "all", heads are pasted back into the whole image, so `background` must be the source's and `crop` off.
        driver_face: which face of the driver, counted from 1 from left to right in the first frame that shows that
            many; None: the largest.

    Raises:
        ConfigError: a value has the wrong type or is out of range.
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

    @classmethod
    def of(cls, values: Mapping[str, Any], base: AnimateOptions | None = None) -> AnimateOptions:
        """Options from a form, a command line or a line of a job list.

        Args:
            values: by name of the attribute; text is converted, and None means that the option is not given.
            base: the values of all other options; None: the defaults.

        Raises:
            ConfigError: an unknown name, a value that does not fit, or a colour that no flat background would show.
        """
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"Expected an option, got {name!r}.", fix=f"Options are {', '.join(sorted(known))}.")
        given = {name: value for name, value in values.items() if value is not None}
        options = replace(base or cls(), **given)
        if "color" in given and options.background is not Background.COLOR:
            raise ConfigError(
                f"color: expected with the background color, got the background {options.background}",
                fix="Set the background to color (--background color), or leave the colour out.",
            )
        return options

    def head_size(self, made: int) -> int:
        """Side of the head crop in the result, pixels: `size`, or the networks' output size `made`, at least 256."""
        return max(_LEAST_HEAD, made) if self.size is None else self.size

    @property
    def transparent(self) -> bool:
        """Whether frames carry alpha."""
        return self.background is Background.TRANSPARENT

    @property
    def crop_only(self) -> bool:
        """Whether the result is the square head crop."""
        return self.crop or self.flat

    @property
    def flat(self) -> bool:
        """Whether the result shows the head alone, without a background from the source or the driver."""
        return self.background in (Background.COLOR, Background.TRANSPARENT)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also true for NaN
        raise ConfigError(f"{name}: expected a value from {low:g} to {high:g}, got {value:g}")


def parse_color(text: str) -> Color:
    """Parse `#RRGGBB` (with or without #), `rgb(r, g, b)` or `rgba(r, g, b, a)` to RGB, 0-255.

    Fractions are rounded; the opacity a is ignored.

    Raises:
        ConfigError: the text has none of these forms.
    """
    if re.fullmatch(r"#?[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text.removeprefix("#"))
        return red, green, blue
    number = r"\s*(\d+(?:\.\d*)?)\s*"
    if found := re.fullmatch(rf"rgb\({number},{number},{number}\)|rgba\({number},{number},{number},{number}\)", text):
        red, green, blue = (min(round(float(part)), 255) for part in [g for g in found.groups() if g][:3])
        return red, green, blue
    raise ConfigError(f"color: expected #RRGGBB, got {text!r}", fix='For example --color "#00b140".')
