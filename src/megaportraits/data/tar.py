"""What lies where in a shard, so that single frames can be read without the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from megaportraits.errors import DataError

_BLOCK = 512  # tar block, bytes


@dataclass(frozen=True)
class ClipMembers:
    """Where the members of one clip lie.

    Attributes:
        shard: the tar file.
        key: the clip's.
        members: by name after the key's dot: offset and size, bytes.
    """

    shard: Path
    key: str
    members: dict[str, tuple[int, int]]


def scan_shard(shard: Path) -> list[ClipMembers]:
    """Where every member of a shard lies, by reading its tar headers; about 10 ms a shard.

    Raises:
        DataError: the file is no tar, or ends before its end mark.
    """
    clips: dict[str, ClipMembers] = {}
    size = shard.stat().st_size
    with shard.open("rb") as file:
        offset = 0
        while offset + _BLOCK <= size:
            file.seek(offset)
            header = file.read(_BLOCK)
            if not header.strip(b"\0"):
                return list(clips.values())
            try:
                length = int(header[124:136].strip(b"\0 "), 8)
                name = header[:100].rstrip(b"\0").decode()
            except ValueError as error:
                raise DataError(
                    f"{shard} is not a readable tar shard at byte {offset}: {error}.",
                    fix="Remove the shard and make it again.",
                ) from error
            if header[156:157] in (b"0", b"\0"):
                key, _, member = name.rpartition("/")[2].partition(".")
                clip = clips.setdefault(key, ClipMembers(shard, key, {}))
                clip.members[member] = (offset + _BLOCK, length)
            offset += _BLOCK + -(-length // _BLOCK) * _BLOCK
    raise DataError(
        f"{shard} ends without the tar end mark: it is truncated.", fix="Remove the shard and make it again."
    )
