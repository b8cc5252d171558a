"""Writes tar shards atomically, with bytes that depend on the members alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from megaportraits.media.folders import whole_file


class AddMember(Protocol):
    """Appends a member to an archive."""

    def __call__(self, name: str, content: bytes) -> None: ...


@contextmanager
def write_tar(path: Path) -> Iterator[AddMember]:
    """Write an uncompressed USTAR archive without times and owners; yields the function that appends a member.

    The file appears under `path` when the block ends. If the block raises, no file is left.
    """
    with (
        whole_file(path) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        yield add
