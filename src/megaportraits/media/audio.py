"""Copy the driver's sound into the result: packet by packet where the container allows it, otherwise re-encoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from megaportraits.media.containers import OpenMedia
from megaportraits.media.limits import DEFAULT_LIMITS, Limits

_COPIED = {
    "mp4": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}),
    "mov": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le"}),
    "matroska": frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "opus", "vorbis", "flac", "pcm_s16le"}),
    "webm": frozenset({"opus", "vorbis"}),
}
_ENCODER = {"mp4": "aac", "mov": "aac", "matroska": "aac", "webm": "libopus"}


class AudioTrack:
    """Copies the first sound track of a media file into an output container.

    Opened by `open`, tied to an output by `attach`; `mux_until` then writes the sound up to a time, so that
    sound and pictures interleave and memory stays constant.

    Attributes:
        start: seconds, time of the first packet.
    """

    def __init__(self, media: OpenMedia, stream: Any) -> None:
        self._media = media
        self._stream = stream
        self.start = Fraction(stream.start_time or 0) * Fraction(stream.time_base)
        self._packets = media.container.demux(stream)
        self._pending: Any = None
        self._out: Any = None
        self._output: Any = None
        self._copy = True
        self._shift = Fraction(0)
        self._ended = False

    @classmethod
    def open(cls, path: str | Path, limits: Limits = DEFAULT_LIMITS) -> AudioTrack | None:
        """The first sound track that can be decoded, or None when the file has none.

        Raises:
            MediaError: the file cannot be opened, or exceeds a limit.
        """
        media = OpenMedia(path, limits)
        media.found()
        for stream in media.container.streams.audio:
            if stream.codec_context is not None:
                return cls(media, stream)
        media.close()
        return None

    def attach(self, output: Any, *, shift: Fraction) -> None:
        """Add the track to an output container.

        Args:
            output: the PyAV output container, before its first packet.
            shift: seconds by which every time is moved earlier.
        """
        name = output.format.name
        codec = self._stream.codec_context.name.removesuffix("float")
        self._copy = codec in _COPIED.get(name, frozenset())
        self._shift = shift
        self._output = output
        if self._copy:
            self._out = output.add_stream_from_template(self._stream)
            self._out.time_base = self._stream.time_base
        else:
            rate = 48000 if _ENCODER[name] == "libopus" else self._stream.rate
            layout = "mono" if self._stream.channels == 1 else "stereo"
            self._out = output.add_stream(_ENCODER[name], rate=rate, layout=layout)
            self._resampler = av.AudioResampler(
                format=self._out.codec_context.format, layout=layout, rate=rate, frame_size=0
            )

    def mux_until(self, end: Fraction) -> None:
        """Write every packet that starts before `end` (seconds, before the shift)."""
        while not self._ended:
            packet = self._pending or self._next_packet()
            self._pending = None
            if packet is None:
                self._ended = True
            elif packet.pts * packet.time_base >= end:
                self._pending = packet
                return
            elif self._copy:
                self._write_copy(packet)
            else:
                self._write_encoded(packet)

    def close(self, *, flush: bool = True) -> None:
        """End the track; with `flush`, after writing what the encoder still holds."""
        if flush and self._out is not None and not self._copy:
            self._encode([*self._resampler.resample(None)])
            for packet in self._out.encode(None):
                self._output.mux(packet)
        self._media.close()

    def _next_packet(self) -> Any:
        while True:
            try:
                packet = next(self._packets, None)
            except av.FFmpegError:
                return None  # a damaged end of the file ends the sound; the video reader reports it
            if packet is None or (packet.dts is not None and packet.pts is not None and packet.size > 0):
                return packet

    def _write_copy(self, packet: Any) -> None:
        ticks = round(self._shift / packet.time_base)
        packet.pts -= ticks
        packet.dts -= ticks
        packet.stream = self._out
        self._output.mux(packet)

    def _write_encoded(self, packet: Any) -> None:
        try:
            frames = packet.decode()
        except av.FFmpegError:
            return  # skip one damaged packet
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(self._shift / frame.time_base)
            self._encode(self._resampler.resample(frame))

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            for packet in self._out.encode(frame):
                self._output.mux(packet)
