"""Images and video in and out (Pillow and PyAV): streaming, with frame times and sound kept."""

from megaportraits.media.files import check_input, check_output
from megaportraits.media.images import Picture, read_image, read_picture, write_image
from megaportraits.media.reader import Frame, VideoInfo, VideoReader, is_video
from megaportraits.media.writer import ALPHA_SUFFIXES, VIDEO_SUFFIXES, VideoWriter

__all__ = [
    "ALPHA_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Frame",
    "Picture",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "check_input",
    "check_output",
    "is_video",
    "read_image",
    "read_picture",
    "write_image",
]
