"""Measure which runtime, precision and number of threads is fastest on this machine, and cache the result."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from megaportraits.errors import ConfigError, DataError, MegaPortraitsError
from megaportraits.live.engines import Sample, Setting
from megaportraits.media.staging import staged_output
from megaportraits.ops.pictures import psnr_of
from megaportraits.pipeline import Rendering
from megaportraits.pipeline.protocols import Renderer
from megaportraits.reading import read_record

MIN_PSNR = 32.0
"""Smallest PSNR, dB, of a candidate's image against the first candidate's; below it the candidate is rejected."""
_RUNS, _FEW = 7, 3
_HOPELESS = 3.0
"""After a few runs, a candidate that is this many times slower than the best so far is not measured further."""
_PACKAGES = ("megaportraits", "torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Candidate:
    """A setting, and the function that builds an engine with it."""

    setting: Setting
    build: Callable[[], Renderer]


@dataclass(frozen=True)
class Trial:
    """Measurement of a candidate.

    Attributes:
        setting: the candidate's setting.
        milliseconds: median time of one frame, milliseconds; None if the candidate could not run.
        psnr: PSNR of its image against the first candidate's, dB; None if it could not run or is the first.
        problem: why it could not run or was rejected; "" if it may be chosen.
    """

    setting: Setting
    milliseconds: float | None
    psnr: float | None = None
    problem: str = ""


def thread_counts() -> list[int]:
    """Numbers of threads to measure: half of the cores, and all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return sorted({max(1, cores // 2), cores})


def tune(
    candidates: Sequence[Candidate],
    sample: Sample,
    *,
    beside: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Trial]:
    """Measure every candidate on a head crop. The fastest that may be chosen comes first in the result.

    Args:
        candidates: the candidates; the first one's image is the reference.
        sample: a head crop of the engines' size, its pose and its face's blendshapes.
        beside: called repeatedly in another thread during the measurement, to simulate face tracking.
        clock: returns the time in seconds.

    Raises:
        ConfigError: no candidate can run.
    """
    trials: list[Trial] = []
    reference: Rendering | None = None
    with _busy(beside):
        for candidate in candidates:
            best = min((t.milliseconds for t in trials if t.milliseconds and not t.problem), default=math.inf)
            trial, picture = _try(candidate, sample, reference, clock, best)
            reference = reference or picture
            trials.append(trial)
    usable = [trial for trial in trials if not trial.problem]
    if not usable:
        raise ConfigError(
            f"no way to run the network works here: {trials[0].setting}: {trials[0].problem}"
            if trials
            else "no runtime fits what was asked for",
            fix="Leave --runtime, --precision and --threads out.",
        )
    return sorted(trials, key=lambda trial: (bool(trial.problem), trial.milliseconds or 0.0))


def remembered(path: Path, key: str, candidates: Sequence[Candidate]) -> Candidate | None:
    """The cached fastest candidate for this key; None if there is none."""
    entry = _known(path).get(key)
    try:
        setting = Setting(**entry) if entry else None
    except TypeError:
        return None  # the entry is from another version, or damaged
    return next((candidate for candidate in candidates if candidate.setting == setting), None)


def remember(path: Path, key: str, setting: Setting) -> None:
    """Store the fastest setting in the cache, for `remembered`."""
    known = _known(path)
    with staged_output(path, overwrite=True) as part:
        part.write_text(json.dumps({**known, key: asdict(setting)}, indent=1) + "\n", encoding="utf-8")


def _known(path: Path) -> dict[str, Any]:
    """All entries of the cache; empty if it is missing or damaged, so that candidates are measured again."""
    try:
        return read_record(path, DataError)
    except DataError:
        return {}


def question(files: Sequence[Path], candidates: Sequence[Candidate]) -> str:
    """The cache key: a hash of what a result depends on (weights, processor, versions, candidates)."""
    versions = {name: metadata.version(name) for name in _PACKAGES if _installed(name)}
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    about = [digest.hexdigest(), platform.processor(), platform.machine(), str(thread_counts()), str(versions)]
    about += [str(candidate.setting) for candidate in candidates]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:32]


def _try(
    candidate: Candidate, sample: Sample, reference: Rendering | None, clock: Callable[[], float], best: float
) -> tuple[Trial, Rendering | None]:
    try:
        engine = candidate.build()
        picture = engine.draw(*sample)
        times: list[float] = []
        while len(times) < _RUNS and not (len(times) >= _FEW and statistics.median(times[1:]) > _HOPELESS * best):
            start = clock()
            engine.draw(*sample)
            times.append((clock() - start) * 1e3)
    except MegaPortraitsError as error:
        return Trial(candidate.setting, None, problem=error.message), None
    taken = statistics.median(times[1:])
    if reference is None:
        return Trial(candidate.setting, taken), picture
    psnr = _psnr(picture, reference)
    problem = "" if psnr >= MIN_PSNR else f"its picture differs too much ({psnr:.0f} dB, wanted {MIN_PSNR:.0f})"
    return Trial(candidate.setting, taken, psnr, problem), picture


def _psnr(a: Rendering, b: Rendering) -> float:
    """PSNR between two renderings at the smaller one's size, dB."""
    size = min(a.size, b.size)
    return psnr_of(float(np.square(a.resized(size) - b.resized(size), dtype=np.float64).mean()))


@contextmanager
def _busy(work: Callable[[], object] | None) -> Iterator[None]:
    if work is None:
        yield
        return
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            work()

    thread = threading.Thread(target=repeat, name="beside", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
