"""Damage to files: to their bytes, or to values inside them, so that the damage passes the first check."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Callable
from typing import Any

import numpy as np

Random = np.random.Generator
Mutate = Callable[[bytes, Random], bytes]

TOKENS = (
    b"\0",
    b"\xff" * 8,
    b"-1",
    b"9" * 400,
    b"[" * 2000,
    b"{" * 2000,
    b"NaN",
    b"1e999",
    b'"',
    b"\n",
    b"../",
    b",,,,",
)
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        2**31,
        2**63,
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        -0.5,
        "",
        "x" * 3000,
        "\ud800",
        "\0",
    ),
    *("../../x", [], {}, [[]], [1, [2]], {"a": {"b": []}}, [None] * 300),
)
"""What a field may be replaced with: other kinds, ends of ranges, texts that are no names."""


def flip(content: bytes, rng: Random) -> bytes:
    """One to four bits."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        changed[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def truncate(content: bytes, rng: Random) -> bytes:
    return content[: _place(content, rng)]


def cut_out(content: bytes, rng: Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + content[at + int(rng.integers(1, 200)) :]


def repeat(content: bytes, rng: Random) -> bytes:
    at, size = _place(content, rng), int(rng.integers(1, 200))
    return content[:at] + content[at : at + size] * int(rng.integers(2, 20)) + content[at:]


def insert(content: bytes, rng: Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + TOKENS[int(rng.integers(len(TOKENS)))] + content[at:]


def overwrite(content: bytes, rng: Random) -> bytes:
    at, size = _place(content, rng), int(rng.integers(1, 16))
    end = b"\xff" * size if rng.random() < 0.5 else rng.bytes(size)
    return content[:at] + end + content[at + size :]


def foreign(content: bytes, rng: Random) -> bytes:
    """Something else altogether: other encodings, other formats, noise, nothing."""
    text = content[:2000].decode("latin-1")
    others = (
        text.encode("utf-16"),
        b"",
        rng.bytes(500),
        b"PK\3\4" + rng.bytes(60),
        b"\x89PNG\r\n\x1a\n" + rng.bytes(60),
    )
    return others[int(rng.integers(len(others)))]


BYTES: tuple[Mutate, ...] = (flip, flip, truncate, cut_out, repeat, insert, overwrite, foreign)


def in_bytes(content: bytes, rng: Random) -> bytes:
    """Any of `BYTES`."""
    return BYTES[int(rng.integers(len(BYTES)))](content, rng)


def in_values(content: bytes, rng: Random) -> bytes:
    """A JSON text with one value replaced, taken away, or given another name."""
    root = json.loads(content)
    holders = [holder for holder in _holders(root) if holder]
    holder: Any = holders[int(rng.integers(len(holders)))]
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key, how = keys[int(rng.integers(len(keys)))], rng.random()
    if how < 0.15:
        del holder[key]
    elif how < 0.25 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    else:
        holder[key] = VALUES[int(rng.integers(len(VALUES)))]
    return json.dumps(root).encode()


def in_lines(content: bytes, rng: Random) -> bytes:
    """A table with one field replaced."""
    lines = content.decode().splitlines()
    at = int(rng.integers(len(lines)))
    fields = lines[at].split(",")
    value = VALUES[int(rng.integers(len(VALUES)))]
    fields[int(rng.integers(len(fields)))] = str(value)
    lines[at] = ",".join(fields)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def in_weights(content: bytes, rng: Random) -> bytes:
    """A safetensors file with a damaged header, or with a damaged config in it; the numbers stay."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    if rng.random() < 0.7:
        notes = header["__metadata__"]
        names = [name for name in ("config", "avatars") if name in notes]
        name = names[int(rng.integers(len(names)))]
        how = in_values if rng.random() < 0.8 else in_bytes
        notes[name] = how(notes[name].encode(), rng).decode("utf-8", "replace")
        text = json.dumps(header).encode()
    else:
        text = in_values(json.dumps(header).encode(), rng)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def in_archive(content: bytes, rng: Random) -> bytes:
    """A tar archive with one damaged member, or with a header of a right checksum and a wrong size."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        parts = [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    chosen = int(rng.integers(len(parts)))
    result = b""
    for number, (member, part) in enumerate(parts):
        if number == chosen:
            part = in_values(part, rng) if member.name.endswith(".json") and rng.random() < 0.8 else in_bytes(part, rng)
        member.size = len(part)
        header = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
        if number == chosen and rng.random() < 0.3:
            sizes = (b"-0000000512", b"77777777777", b"00000000000", b"\x80\xff\xff\xff\xff", b"")
            header[124:136] = sizes[int(rng.integers(len(sizes)))].ljust(12, b"\0")
            header[148:156] = b" " * 8
            header[148:156] = f"{sum(header):06o}\0 ".encode()
        result += bytes(header) + part + bytes(-len(part) % 512)
    return result + bytes(1024)


def _place(content: bytes, rng: Random) -> int:
    """Half of the places are near the beginning, where headers are."""
    end = min(len(content), 256) if rng.random() < 0.5 else len(content)
    return int(rng.integers(max(end, 1)))


def _holders(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    below = [holder for part in inner for holder in _holders(part)]
    return [value, *below] if isinstance(value, dict | list) else below
