"""Training data: the clip format, and what fills and reads it."""

from megaportraits.data.clips import ClipIndex, ClipRecord, Frame, FrameLabels, ShardWriter

__all__ = ["ClipIndex", "ClipRecord", "Frame", "FrameLabels", "ShardWriter"]
