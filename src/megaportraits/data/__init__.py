"""Training data: the clip format, and what fills and reads it."""

from megaportraits.data.clips import ClipIndex, ShardWriter
from megaportraits.data.records import ClipRecord, Frame, FrameLabels

__all__ = ["ClipIndex", "ClipRecord", "Frame", "FrameLabels", "ShardWriter"]
