"""Downloads the shards of one address that a loading process needs, and deletes those it no longer needs."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from megaportraits import weights
from megaportraits.data.clips import ClipIndex
from megaportraits.data.remote import RemoteFolder
from megaportraits.errors import DataError


class ShardPrefetcher:
    """Keeps the shards of one address that this process currently needs, as files in the cache directory.

    `data.stream` describes lanes and windows.
    """

    def __init__(self, folder: RemoteFolder, seed: int, share: int, shards: int, draws: int) -> None:
        self.folder, self.seed, self.share, self.shards, self.draws = folder, seed, share, shards, draws
        self.held: tuple[int, ...] = ()
        self._key: tuple[int, ...] = ()
        self._lost: set[int] = set()
        self._told = 0
        self._process = 0

    def at(self, lane: int, lanes: int, place: int) -> ClipIndex:
        """The clips of the shards that the lane's item `place` is drawn from; missing shards are downloaded."""
        if self._process != os.getpid():  # a loading process must not use its parent's files
            self._begin()
        first = place // self.draws
        wanted = [self._shard(lane, lanes, first + i) for i in range(self.shards)]
        key = tuple(sorted(set(wanted)))
        if key != self._key:
            self._move_to(key)
            self._fetch_ahead(self._shard(lane, lanes, first + self.shards))
        return self._index

    def take_lost(self) -> int:
        """The number of shards that could not be downloaded since the last call."""
        new, self._told = len(self._lost) - self._told, len(self._lost)
        return new

    def close(self) -> None:
        """Delete this process's files. Without this call, they remain until the process or this object ends."""
        if self._process == os.getpid():
            self._pool.shutdown(cancel_futures=True)  # a download that still runs would write into a deleted folder
            self._delete()
            self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        kept = ("folder", "seed", "share", "shards", "draws")
        return {name: getattr(self, name) for name in kept} | {"held": (), "_lost": set(), "_told": 0, "_process": 0}

    def _begin(self) -> None:
        self._process, self._key, self.held = os.getpid(), (), ()
        self._files = _own_folder()
        (self._files / "ahead").mkdir()
        self._pool = ThreadPoolExecutor(1)
        self._ahead: dict[int, Future[None]] = {}
        self._delete = Finalize(
            self, shutil.rmtree, args=(self._files,), kwargs={"ignore_errors": True}, exitpriority=10
        )

    def _shard(self, lane: int, lanes: int, turn: int) -> int:
        epoch, place = divmod(turn * lanes + lane, len(self.folder.names))
        return _order(self.seed, self.share, epoch, len(self.folder.names))[place]

    def _move_to(self, key: tuple[int, ...]) -> None:
        for number in set(self.held) - set(key):
            self._file(number).unlink()
        for number in key:
            if not self._file(number).exists():
                self._have(number)
        self.held = tuple(number for number in key if self._file(number).exists())
        if not self.held:
            raise DataError(
                f"None of {len(key)} shards in a row of {self.folder.address} can be had.",
                fix="Check the network, then continue the run with --resume.",
            )
        self._index, self._key = ClipIndex(self._files, indexed=False), key

    def _have(self, number: int) -> None:
        """Get a shard: from the folder of prefetched ones, or from its address. Note it as lost if that fails."""
        ahead = self._ahead.pop(number, None)
        try:
            if ahead is None:
                self.folder.fetch(number, self._file(number))
            else:
                ahead.result()
                self._file(number, "ahead").replace(self._file(number))
        except DataError as error:
            if number not in self._lost:
                Console(stderr=True).print(f"Left out: {error.message}", highlight=False, soft_wrap=True)
            self._lost.add(number)

    def _fetch_ahead(self, number: int) -> None:
        if number not in self._ahead and not self._file(number).exists():
            self._ahead[number] = self._pool.submit(self.folder.fetch, number, self._file(number, "ahead"))

    def _file(self, number: int, folder: str = ".") -> Path:
        return self._files / folder / f"clips-{number:06d}.tar"


@lru_cache(maxsize=8)
def _order(seed: int, share: int, epoch: int, count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng((seed, share, epoch, 6)).permutation(count)]


def _own_folder() -> Path:
    """Create a folder for this process; delete the folders of this machine's processes that have ended."""
    root = weights.cache_dir().parent / "streams"
    root.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    for old in root.glob(f"{host}-*"):
        process = old.name.removeprefix(f"{host}-").partition("-")[0]
        if process.isdigit() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{host}-{os.getpid()}-", dir=root))
