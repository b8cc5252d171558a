"""What all configs are, and the ranges that their values share: wide enough for any run, narrow enough to start one."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Pixels = Annotated[int, Field(ge=1, le=8192)]
"""Side of an image."""
Channels = Annotated[int, Field(ge=1, le=8192)]
"""Width of a layer."""
Blocks = Annotated[int, Field(ge=0, le=128)]
"""Residual blocks in a row."""
Widths = Annotated[tuple[Channels, ...], Field(min_length=1, max_length=16)]
"""One block each."""
Switches = Annotated[tuple[bool, ...], Field(min_length=1, max_length=16)]
"""One for each of `Widths`."""
Factor = Annotated[int, Field(ge=1, le=8)]
"""Of a change in resolution."""
LossWeight = Annotated[float, Field(ge=0, le=1e6)]
"""Of a loss."""
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
"""Of a running mean, for a step."""
Rate = Annotated[float, Field(ge=0, le=10)]
"""A learning rate."""
Steps = Annotated[int, Field(ge=0, le=1_000_000_000)]
Every = Annotated[int, Field(ge=1, le=1_000_000_000)]
"""Steps between two events."""
Workers = Annotated[int, Field(ge=0, le=256)]
"""Loading processes; 0 loads in the training process."""
Processes = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(max_length=200)]


class Config(BaseModel):
    """Base of all configs: immutable; unknown keys, infinities and NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
