"""Stores results on disk, one file for each method and pair, so that an interrupted evaluation can continue."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits import __version__
from megaportraits.evaluation.methods.base import Method
from megaportraits.evaluation.metrics.measure import Doubles, PairResult
from megaportraits.evaluation.metrics.metric_networks import MetricNetworks
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.report.closeups import Boxes
from megaportraits.media import VideoReader, VideoWriter
from megaportraits.media.images import UInt8
from megaportraits.media.staging import staged_output

Arrays = dict[str, npt.NDArray[Any]]

_FORMAT = 3
_SIZE_OF_UNKNOWN = -1


@dataclass(frozen=True)
class SampleNote:
    """The data of a pair that a report shows, independent of methods.

    Attributes:
        frames: number of driver frames.
        lost: see `EvaluationSample`.
        fps: see `EvaluationSample`.
        curves: (n, 10), the driver's face signals.
        source: (s, s, 3), the source's head crop.
        source_features: (1, d), features of the source for the Frechet distance.
        boxes: (n, 2, 3), positions of eyes and mouth in the driver's head crops, see `evaluation.report.closeups`.
        closeups: images of the source's eyes and mouth.
    """

    frames: int
    lost: int
    fps: float
    curves: Doubles
    source: UInt8
    source_features: npt.NDArray[np.float32]
    boxes: Boxes
    closeups: tuple[UInt8, UInt8]


class ResultStore:
    """The folder `results` of an evaluation: `results/METHOD/PROTOCOL/PAIR.npz`, and outputs as `.mp4` beside them.

    A stored result is used only if everything that it depends on is equal: pair, files, method, size, networks,
    version.
    """

    def __init__(self, folder: Path, networks: MetricNetworks) -> None:
        self.folder = folder
        self._networks = networks.settings

    def video(self, method: Method, pair: Pair) -> Path:
        """The path of a method's output video."""
        return result_video(self.folder, method.name, pair)

    def load(self, method: Method, pair: Pair, size: int) -> PairResult | None:
        """Load a stored result; None if there is no valid one."""
        found = _read(self._path(method.name, pair), self._digest(pair, size, dict(method.settings)))
        if found is None:
            return None
        meta, arrays = found
        return PairResult(
            meta["metrics"],
            meta["reasons"],
            arrays["features"],
            arrays["curves"],
            list(arrays["thumbnails"]),
            meta["worst_frames"],
        )

    def save(self, method: Method, pair: Pair, size: int, result: PairResult, fps: float) -> None:
        """Store a result, with its images as a video."""
        path = self._path(method.name, pair)
        rate = Fraction(fps).limit_denominator(1000)
        with VideoWriter(path.with_suffix(".mp4"), fps=rate, overwrite=True) as writer:
            for picture in result.pictures:
                writer.write(picture)
        meta = {"metrics": result.metrics, "reasons": result.reasons, "worst_frames": result.worst_frames}
        arrays: Arrays = {
            "features": result.features,
            "curves": result.curves,
            "thumbnails": np.stack(result.thumbnails),
        }
        _write(path, self._digest(pair, size, dict(method.settings)), meta, arrays)

    def load_note(self, pair: Pair, size: int) -> SampleNote | None:
        """Load the note of a pair; None if there is no valid one."""
        found = _read(self._path("samples", pair), self._digest(pair, size, {}))
        if found is None:
            return None
        meta, arrays = found
        return SampleNote(
            meta["frames"],
            meta["lost"],
            meta["fps"],
            arrays["curves"],
            arrays["source"],
            arrays["source_features"],
            arrays["boxes"],
            (arrays["source_eyes"], arrays["source_mouth"]),
        )

    def save_note(self, pair: Pair, size: int, note: SampleNote) -> None:
        """Store the note of a pair."""
        meta = {"frames": note.frames, "lost": note.lost, "fps": note.fps}
        arrays: Arrays = {
            "curves": note.curves,
            "source": note.source,
            "source_features": note.source_features,
            "boxes": note.boxes,
            "source_eyes": note.closeups[0],
            "source_mouth": note.closeups[1],
        }
        _write(self._path("samples", pair), self._digest(pair, size, {}), meta, arrays)

    def pictures(self, method: Method, pair: Pair) -> list[UInt8]:
        """Read the outputs of a method from its video."""
        return [frame.image for frame in VideoReader(self.video(method, pair))]

    def _path(self, name: str, pair: Pair) -> Path:
        return _result(self.folder, name, pair)

    def _digest(self, pair: Pair, size: int, settings: Mapping[str, str]) -> str:
        files = [(file.name, _size(file)) for file in (pair.source, pair.driver)]
        asked = [pair.name, pair.source_frame, pair.first, pair.step, pair.frames, files]
        content = [_FORMAT, __version__, asked, size, self._networks, settings]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def result_video(folder: Path, method: str, pair: Pair) -> Path:
    """The path of a method's output video for a pair in the folder `results`."""
    return _result(folder, method, pair).with_suffix(".mp4")


def _result(folder: Path, method: str, pair: Pair) -> Path:
    return folder / slug(method) / pair.protocol / f"{pair.key}.npz"


def slug(name: str) -> str:
    """Turn a method's name into a file name."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "method"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else _SIZE_OF_UNKNOWN


def _write(path: Path, digest: str, meta: Mapping[str, Any], arrays: Arrays) -> None:
    text = json.dumps({"digest": digest, **meta})  # with NaN and Infinity, which Python reads back
    with staged_output(path, overwrite=True) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, meta=np.array(text), **arrays)


def _read(path: Path, digest: str) -> tuple[dict[str, Any], Arrays] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
        return (meta, arrays) if meta["digest"] == digest else None
    except Exception:  # zipfile, zlib and numpy raise many types for damaged bytes
        return None  # the pair is measured again


def write_row(path: Path, rows: Sequence[Sequence[UInt8]], fps: float) -> None:
    """Write several videos side by side as one; an existing file is replaced.

    Args:
        path: the video to write.
        rows: for each video its frames (n, n, 3); all have the same size and number of frames.
        fps: frame rate.
    """
    with VideoWriter(path, fps=Fraction(fps).limit_denominator(1000), overwrite=True) as writer:
        for frames in zip(*rows, strict=True):
            writer.write(np.concatenate(frames, axis=1))
