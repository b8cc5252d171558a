"""Find MP4 and MOV tables that declare far more than the file contains, before FFmpeg allocates memory for them.

A table can give one size for all of its samples, so that a file of some kilobytes can declare billions of them; FFmpeg
allocates about 70 bytes for each. Edit lists repeat samples without storing them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from megaportraits.errors import MediaError

_MOST_SAMPLES = 5_000_000
"""Limit for all tracks together: 23 hours at 60 frames a second. FFmpeg's index of so many samples takes 0.4 GB."""
_MOST_EDITS = 1000
_MOST_BOXES = 1_000_000
_SAMPLES_PER_ENTRY = 1024
"""Samples of uncompressed sound that share one entry of FFmpeg's index."""
_CONTAINERS = frozenset(
    b"moov hoov free trak mdia minf dinf stbl edts mvex traf moof udta mfra tref sinf schi wave gmhd iprp ipco".split()
)
"""Boxes that FFmpeg reads as containers of boxes; `free` and `hoov` are headers that an editor was rewriting."""


@dataclass
class _TrackTables:
    """Numbers of entries that the tables of one track declare."""

    kinds: set[bytes] = field(default_factory=set)
    durations: list[tuple[int, int]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def entries(self) -> int:
        """Entries of FFmpeg's index; uncompressed sound has one for many samples."""
        sound = b"soun" in self.kinds and not self.kinds & {b"vide", b"subp", b"clcp"}
        plain = sound and set(self.durations) == {(1, 1)}  # one entry, each sample one tick
        return sum(self.counts) // (_SAMPLES_PER_ENTRY if plain else 1)


def check_tables(path: Path, file: BinaryIO) -> None:
    """Refuse a file whose tables declare too much.

    Args:
        path: for the message.
        file: an MP4 or MOV; its position is moved.

    Raises:
        MediaError: more samples, edits or boxes than any real file has, or a compressed header.
    """
    tracks = [_TrackTables()]
    waiting = [(0, file.seek(0, 2))]
    boxes = edits = 0
    while waiting:
        at, end = waiting.pop()
        if at + 8 > end:
            continue
        file.seek(at)
        head = file.read(32)
        size, kind = struct.unpack(">I4s", head[:8])
        body = 8
        if size == 1 and len(head) >= 16:
            size, body = struct.unpack(">Q", head[8:16])[0], 16
        stop = min(at + size, end) if size else end
        if stop < at + body:
            continue
        boxes += 1
        waiting.append((stop, end))
        if kind == b"trak":
            tracks.append(_TrackTables())
        if kind in _CONTAINERS or kind == b"meta":
            waiting.append((at + body + (4 if kind == b"meta" else 0), stop))
        fields = struct.unpack(">4I", head[body : body + 16]) if len(head) >= body + 16 else (0,) * 4
        if kind in (b"stsz", b"stz2"):
            tracks[-1].counts.append(fields[2])
        elif kind == b"trun":
            tracks[0].counts.append(fields[1])
        elif kind == b"stts":
            tracks[-1].durations.append((fields[1], fields[3]))
        elif kind == b"hdlr":
            tracks[-1].kinds.add(struct.pack(">I", fields[2]))
        elif kind == b"elst":
            edits += fields[1]
        if kind == b"cmov":
            raise MediaError(f"{path}: a compressed MOV header is not read", fix="Convert the file to MP4 first.")
        if boxes > _MOST_BOXES:
            break
    samples = sum(track.entries() for track in tracks)
    found = (("frames", samples, _MOST_SAMPLES), ("edits", edits, _MOST_EDITS), ("boxes", boxes, _MOST_BOXES))
    for name, count, most in found:
        if count > most:
            raise MediaError(
                f"{path}: expected at most {most} {name} in a video, its header declares {count} or more",
                fix="The file is damaged; convert it to MP4 again.",
            )
