"""The base class of all configs, and value types with the ranges that configs share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Pixels = Annotated[int, Field(ge=1, le=8192)]
"""Side of an image."""
Channels = Annotated[int, Field(ge=1, le=8192)]
"""Width of a layer."""
Blocks = Annotated[int, Field(ge=0, le=128)]
"""Number of consecutive residual blocks."""
Widths = Annotated[tuple[Channels, ...], Field(min_length=1, max_length=16)]
"""Widths of consecutive blocks, one for each block."""
Switches = Annotated[tuple[bool, ...], Field(min_length=1, max_length=16)]
"""One switch for each of `Widths`."""
Factor = Annotated[int, Field(ge=1, le=8)]
"""Factor of a change in resolution."""
LossWeight = Annotated[float, Field(ge=0, le=1e6)]
"""Weight of a loss; 0 switches it off."""
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
"""Decay of a running mean, per step."""
Rate = Annotated[float, Field(ge=0, le=10)]
"""Learning rate or weight decay."""
Steps = Annotated[int, Field(ge=0, le=1_000_000_000)]
Every = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""Interval in steps between two events."""
Workers = Annotated[int, Field(ge=0, le=256)]
"""Number of data-loading processes; with 0 the training process loads the data."""
Processes = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(max_length=200)]


class Config(BaseModel):
    """Base of all configs: immutable. Unknown keys, infinities and NaN are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
