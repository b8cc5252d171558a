"""Offsets of the members of a shard, so that single frames can be read without the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from megaportraits.errors import DataError
from megaportraits.reading import access

CLIP_SHARDS = "clips-*.tar"
"""File names of the shards of a data set."""
_BLOCK = 512  # tar block, bytes
_OCTAL = re.compile(rb"[ \0]*([0-7]+)[ \0]*")
_AGAIN = "Remove the shard and make it again."


@dataclass(frozen=True)
class ClipMembers:
    """The positions of the members of one clip.

    Attributes:
        shard: the tar file.
        key: the clip's key.
        members: for each name after the key's dot, offset and size in bytes.
    """

    shard: Path
    key: str
    members: dict[str, tuple[int, int]]


def scan_shard(shard: Path) -> list[ClipMembers]:
    """Find every member of a shard by reading its tar headers; this takes about 10 ms per shard.

    Raises:
        DataError: the file cannot be read, is not a tar file, or ends before its end mark.
    """
    clips: dict[str, ClipMembers] = {}
    for name, offset, length in members(shard):
        key, _, member = name.rpartition("/")[2].partition(".")
        clip = clips.setdefault(key, ClipMembers(shard, key, {}))
        clip.members[member] = (offset, length)
    return list(clips.values())


def members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every ordinary file in an uncompressed USTAR archive, in its order.

    Every size is checked before it is used: `tarfile` of Python before 3.11.14 seeks back on a negative size and loops
    for ever. Long names and other extensions of the format are skipped; no shard of ours has them.

    Raises:
        DataError: as for `scan_shard`.
    """
    with access(shard, DataError), shard.open("rb") as file:
        size, offset = shard.stat().st_size, 0
        while offset + _BLOCK <= size:
            file.seek(offset)
            header = file.read(_BLOCK)
            if not header.strip(b"\0"):
                return
            try:
                name, length = _entry(header)
                if offset + _BLOCK + length > size:
                    raise ValueError(f"a member of {length:,} bytes in a file of {size:,}")
            except ValueError as error:
                raise DataError(
                    f"{shard} is not a readable tar shard at byte {offset}: {error}.", fix=_AGAIN
                ) from error
            if header[156:157] in (b"0", b"\0"):
                yield name, offset + _BLOCK, length
            offset += _BLOCK + -(-length // _BLOCK) * _BLOCK
    raise DataError(f"{shard} ends without the tar end mark: it is truncated.", fix=_AGAIN)


def read_member(shard: Path, offset: int, size: int) -> bytes:
    """Read the bytes of a member.

    Raises:
        DataError: the file cannot be read, or has become shorter.
    """
    with access(shard, DataError), shard.open("rb", buffering=0) as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) != size:
        raise DataError(f"{shard}: expected {size} bytes at {offset}, got {len(content)}.", fix=_AGAIN)
    return content


def _entry(header: bytes) -> tuple[str, int]:
    """Name and size from a tar header; ValueError if its checksum is wrong or a field is not an octal number."""
    if _number(header[148:156], "checksum") != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise ValueError("the header's checksum is wrong")
    return header[:100].rstrip(b"\0").decode(), _number(header[124:136], "size")


def _number(field: bytes, name: str) -> int:
    found = _OCTAL.fullmatch(field)
    if found is None:
        raise ValueError(f"the {name} {field!r} is not an octal number")
    return int(found[1], 8)
