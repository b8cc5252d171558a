"""What all configs are."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of all configs: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
