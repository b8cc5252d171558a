"""Choose the demuxer of a file by its first bytes; FFmpeg neither guesses the format nor opens files itself.

Playlists and manifests (HLS, DASH, ffconcat, SDP, image patterns) refer to other files, which FFmpeg would open. Their
demuxers are not in the list, whatever suffix a file has. Formats in the list can also contain references (QuickTime
data references, subtitles in AVI). FFmpeg therefore gets the bytes from Python, may use one demuxer and no protocol,
and every request to open something else is refused.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NoReturn

import av

from megaportraits.errors import MediaError
from megaportraits.media.files import check_input
from megaportraits.media.limits import DEFAULT_LIMITS, Limits
from megaportraits.media.quicktime import check_tables

_HEAD = 4096
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"FLV\x01", "flv"),
    (b"OggS", "ogg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02", "mxf"),
    (b"\x1f\x07\x00", "dv"),
    (b"YUV4MPEG2 ", "yuv4mpegpipe"),
    (b"DKIF", "ivf"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x00\x00\x01\xb3", "mpegvideo"),
    (b"\x00\x00\x00\x01\x40\x01", "hevc"),
    (b"\x00\x00\x00\x01\x46\x01", "hevc"),
    (b"\x00\x00\x00\x01\x67", "h264"),
    (b"\x00\x00\x00\x01\x27", "h264"),
    (b"\x00\x00\x00\x01\x09", "h264"),
    (b"fLaC", "flac"),
    (b"ID3", "mp3"),
)
"""First bytes and FFmpeg's name of the demuxer."""
_RIFF = {b"AVI ": "avi", b"WAVE": "wav"}
_QUICKTIME_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_PICTURE_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2", b"avif", b"avis"}
)
"""Files of these major brands are pictures, which FFmpeg reads incorrectly (one tile of many, wrong orientation)."""
_PACKET_LENGTHS = (188, 192, 204)
READABLE = "Give a JPEG, PNG, WebP or HEIC picture, or an MP4, MOV, MKV, WebM, AVI or MPEG video."


def demuxer_of(head: bytes) -> str | None:
    """FFmpeg's name of the demuxer for a file with these first bytes; None where the file is not in the list."""
    if head[4:8] in _QUICKTIME_BOXES:
        return None if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS else "mov"
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if any(_is_transport_stream(head, length) for length in _PACKET_LENGTHS):
        return "mpegts"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "aac" if head[1] & 0xF6 == 0xF0 else "mp3"
    return None


class OpenMedia:
    """A video or sound file, open for reading with one demuxer and nothing else; a context manager.

    Args:
        path: the file.
        limits: `bytes` and `probe_bytes` are checked here, `frame_pixels` where a decoder is opened.

    Attributes:
        container: PyAV's input container.

    Raises:
        MediaError: the file cannot be read, is in no format of the list, or exceeds a limit.
    """

    def __init__(self, path: str | Path, limits: Limits = DEFAULT_LIMITS) -> None:
        path = check_input(path)
        limits.check_file(path)
        self._source = _Source(path, limits.probe_bytes)
        try:
            name = demuxer_of(self._source.read(_HEAD))
            if name is None:
                raise MediaError(
                    f"{path}: expected an image or a video, got a file in no supported format", fix=READABLE
                )
            if name == "mov":
                check_tables(path, self._source.file)
            self._source.seek(0)
            self.container: Any = av.open(
                self._source, "r", format=name, options=_options(name, limits), io_open=_refuse
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            self._source.close()
            raise MediaError(
                f"{path}: expected an image or a video, got a file that opens as neither ({reason(error)})",
                fix=READABLE,
            ) from error
        except BaseException:
            self._source.close()
            raise

    def __enter__(self) -> OpenMedia:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the container and the file."""
        self.container.close()
        self._source.close()

    def found(self) -> None:
        """Lift the limit `probe_bytes`: the first frame was found."""
        self._source.left = None


def reason(error: BaseException) -> str:
    """One line about an error of FFmpeg or the system."""
    return (str(getattr(error, "strerror", None) or error).strip().splitlines() or [type(error).__name__])[0]


class _Source:
    """A file's bytes for FFmpeg. It has no `name`, so that FFmpeg has no path to derive others from.

    Attributes:
        left: bytes that may still be read, None for any number.
        file: the file itself.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.left: int | None = most
        self._path, self._most = path, most
        try:
            self.file = path.open("rb", buffering=0)
        except OSError as error:
            raise MediaError(f"{path}: the file cannot be read ({reason(error)})") from error

    def read(self, count: int) -> bytes:
        if self.left is not None:
            if self.left <= 0:
                self.left = None
                self.file.seek(0, io.SEEK_END)  # FFmpeg gets no more data, even if it ignores the error
                raise MediaError(
                    f"{self._path}: no video frame was found in {self._most / 1e6:.4g} MB",
                    fix="Convert the file to MP4 (H.264) first.",
                )
            self.left -= count
        return self.file.read(count)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        self.file.close()


def _options(demuxer: str, limits: Limits) -> dict[str, str]:
    formats = av.ContainerFormat(demuxer, "r").name
    options = {"format_whitelist": formats, "protocol_whitelist": "none", "max_pixels": str(limits.frame_pixels)}
    return options | ({"enable_drefs": "0", "use_absolute_path": "0"} if demuxer == "mov" else {})


def _refuse(address: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise MediaError("the file asks for another file or address, which is not opened", fix=READABLE)


def _is_transport_stream(head: bytes, length: int) -> bool:
    """Whether sync bytes repeat every `length` bytes, starting somewhere in the first packet."""
    packets = 5
    return any(
        all(head[start + length * n : start + length * n + 1] == b"\x47" for n in range(packets))
        for start in range(length)
    )
