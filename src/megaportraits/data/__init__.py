"""Training data: the clip format, and what fills and reads it."""

from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ClipIndex, ShardWriter

__all__ = ["ClipFrame", "ClipIndex", "ClipRecord", "FrameLabels", "ShardWriter"]
