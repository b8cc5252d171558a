"""Shards at an address: `https://`, `s3://`, `gs://`, or any other that fsspec supports."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from megaportraits.data.shard_index import CLIP_SHARDS, scan_shard
from megaportraits.errors import DataError

INDEX = "index.txt"
"""A file that names the shards, one per line, for servers that do not list folders."""
_ATTEMPTS, _PAUSE_SECONDS = 4, 1.0


@dataclass(frozen=True)
class RemoteFolder:
    """A remote folder of shards.

    Attributes:
        address: the folder's address, without a slash at the end.
        names: the file names of its shards, sorted.
    """

    address: str
    names: tuple[str, ...]

    @staticmethod
    def open(address: str) -> RemoteFolder:
        """List a folder: from its `index.txt` if it has one, else by asking the server.

        Raises:
            DataError: the address cannot be read, or no shard is found there.
        """
        address = address.rstrip("/")
        with _told(address):
            system, path = url_to_fs(address)
            try:
                names = system.cat_file(f"{path}/{INDEX}").decode().split()
            except FileNotFoundError:
                names = [str(entry).rstrip("/").rpartition("/")[2] for entry in system.ls(path, detail=False)]
        found = sorted({name for name in names if fnmatch.fnmatch(name, CLIP_SHARDS)})
        if not found:
            raise DataError(
                f"No shards {CLIP_SHARDS} found at {address}.",
                fix=f"Put an {INDEX} beside them that names one a line: ls {CLIP_SHARDS} > {INDEX}",
            )
        return RemoteFolder(address, tuple(found))

    def fetch(self, number: int, to: Path) -> None:
        """Download shard `number` to a local file, which appears when it is complete; failures are retried.

        Raises:
            DataError: the shard does not exist, or four attempts failed or gave no complete tar file.
        """
        name = self.names[number]
        partial = to.with_suffix(".partial")
        for attempt in range(_ATTEMPTS):
            try:
                with _told(f"{self.address}/{name}"):
                    system, path = url_to_fs(self.address)
                    system.get_file(f"{path}/{name}", str(partial))
                scan_shard(partial)
                partial.replace(to)
                return
            except DataError as error:
                partial.unlink(missing_ok=True)
                if attempt == _ATTEMPTS - 1 or isinstance(error.__cause__, FileNotFoundError):
                    raise DataError(f"{self.address}/{name}: {error.message}", fix=error.fix) from error
                time.sleep(_PAUSE_SECONDS * 4**attempt)


@contextmanager
def _told(address: str) -> Iterator[Any]:
    """Turn any exception of fsspec's file systems into an error that tells the user what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"nothing is found at {address}", fix="Check the address.") from error
    except ImportError as error:
        raise DataError(
            f"{address} needs a missing package: {error}",
            fix="Install it; for http:// and https:// that is aiohttp, for s3:// s3fs, for gs:// gcsfs.",
        ) from error
    except Exception as error:  # every file system has its own exceptions (aiohttp, botocore, ...)
        raise DataError(
            f"{address} cannot be read: {type(error).__name__}: {error}", fix="Check the network and the address."
        ) from error
