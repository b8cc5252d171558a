"""Images and video in and out (Pillow and PyAV): streaming, with frame times and sound kept."""

from megaportraits.media.files import check_input, check_output, check_outputs
from megaportraits.media.frames import VideoFrame, VideoInfo
from megaportraits.media.images import (
    PICTURE_SUFFIXES,
    STILL_SUFFIXES,
    Picture,
    as_image,
    read_image,
    read_picture,
    write_image,
)
from megaportraits.media.limits import DEFAULT_LIMITS, Limits
from megaportraits.media.reader import FOOTAGE_SUFFIXES, VideoReader, is_video
from megaportraits.media.writer import ALPHA_SUFFIXES, VIDEO_SUFFIXES, VideoWriter

__all__ = [
    "ALPHA_SUFFIXES",
    "DEFAULT_LIMITS",
    "FOOTAGE_SUFFIXES",
    "PICTURE_SUFFIXES",
    "STILL_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Limits",
    "Picture",
    "VideoFrame",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "as_image",
    "check_input",
    "check_output",
    "check_outputs",
    "is_video",
    "read_image",
    "read_picture",
    "write_image",
]
