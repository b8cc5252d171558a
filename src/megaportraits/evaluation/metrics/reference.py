"""Reference statistics for a Frechet distance: the feature moments of a set of real images, such as FFHQ.

The images are processed like methods' outputs: as head crops at the size of the evaluation. A file contains the mean
and a root of the covariance of the features, the network's name, and the size.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from megaportraits.errors import DataError, MediaError
from megaportraits.evaluation.metrics.frechet import Moments, moments
from megaportraits.evaluation.metrics.metric_networks import MetricNetworks
from megaportraits.faces.crop import extract, head_crop
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.media import PICTURE_SUFFIXES, VIDEO_SUFFIXES, VideoReader, read_image
from megaportraits.media.images import UInt8
from megaportraits.media.staging import staged_output
from megaportraits.reading import is_file, parse_json, shown

FORMAT = 1
LEAST_SIDE = 0.75
"""Images whose head crop is smaller than this fraction of the size are left out, because enlargement blurs."""
_BLOCK = 256
_FIX = "Make one with `megaportraits reference`."
_MOST = 64 << 20
"""Largest size of a file in memory, bytes; 2048 features need 34 MB."""


@dataclass(frozen=True)
class Reference:
    """Statistics of a set of real images.

    Attributes:
        name: name of the set, for reports.
        network: name of the Frechet distance, see `MetricNetworks.frechet`.
        size: side of the head crops, pixels.
        moments: mean and covariance of the head crops' features.
        left_out: for each reason why images were left out, their number.
    """

    name: str
    network: str
    size: int
    moments: Moments
    left_out: dict[str, int] = field(default_factory=dict)

    def describe(self) -> str:
        """A description for a report, in one line."""
        return f"{self.name}, {self.moments.count} pictures of {self.size} px"


def find_pictures(folders: Sequence[Path]) -> list[Path]:
    """Find images and videos in folders and all their sub-folders, sorted by name.

    Raises:
        DataError: a folder is missing, or there are no images or videos.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: expected a folder of pictures or videos.", fix="Check --images.")
        found += sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES) and path.is_file()
        )
    if not found:
        raise DataError(
            f"Expected pictures or videos in {', '.join(map(str, folders))}, found none.", fix="Check --images."
        )
    return found


def measure_reference(
    name: str,
    files: Sequence[Path],
    networks: MetricNetworks,
    analyzer: FaceAnalyzer,
    *,
    size: int,
    per_video: int = 8,
    progress: Callable[[int, int | None], None] = lambda done, expected: None,
) -> Reference:
    """Compute the statistics of the head crops of images, and of one frame per second of videos.

    Args:
        name: name of the set.
        files: images and videos.
        networks: the metric networks.
        analyzer: finds faces; the largest face of an image is used.
        size: side of the head crops, pixels.
        per_video: largest number of frames from a video.
        progress: called with the number of files done and in total.

    Raises:
        DataError: fewer than two images are usable.
    """
    left_out: Counter[str] = Counter()

    def crops() -> Iterator[UInt8]:
        for number, path in enumerate(files):
            progress(number, len(files))
            try:
                for picture in _pictures(path, per_video):
                    face = next(iter(analyzer.detect(picture)), None)
                    if face is None:
                        left_out["no face"] += 1
                        continue
                    crop = head_crop(face)
                    if crop.side < LEAST_SIDE * size:
                        left_out[f"the head crop has less than {LEAST_SIDE * size:.0f} px"] += 1
                    else:
                        yield extract(picture, crop, size)
            except MediaError:
                left_out["unreadable"] += 1
        progress(len(files), len(files))

    def blocks() -> Iterator[npt.NDArray[np.float32]]:
        block: list[UInt8] = []
        for crop in crops():
            block.append(crop)
            if len(block) == _BLOCK:
                yield networks.features(block)
                block.clear()
        if block:
            yield networks.features(block)

    usable = blocks()
    first = next(usable, None)
    told = ", ".join(f"{count} {why}" for why, count in left_out.items())
    if first is None:
        raise DataError(
            f"No picture is usable for {size} px: {told}.", fix="Give larger pictures, or a smaller --size."
        )
    found = moments(itertools.chain([first], usable))
    if found.count < 2:
        raise DataError("Expected at least two usable pictures, got one.", fix="Give more pictures.")
    return Reference(name, networks.frechet, size, found, dict(left_out))


def save_reference(path: Path, reference: Reference, *, overwrite: bool = False) -> None:
    """Write reference statistics as .npz.

    Raises:
        MediaError: the file exists and `overwrite` is false, or cannot be written.
    """
    meta = {
        "format": FORMAT,
        "name": reference.name,
        "network": reference.network,
        "size": reference.size,
        "count": reference.moments.count,
        "left_out": reference.left_out,
    }
    with staged_output(path, overwrite=overwrite) as part, part.open("wb") as file:
        arrays = {"mean": reference.moments.mean, "root": reference.moments.root}
        np.savez(file, allow_pickle=False, meta=np.array(json.dumps(meta)), **arrays)


def load_reference(path: Path) -> Reference:
    """Read a file of `save_reference`.

    Raises:
        DataError: the file does not exist, is damaged, or is not a file of reference statistics.
    """
    if not is_file(path, DataError):
        raise DataError(f"{path}: no such file of reference statistics.", fix=_FIX)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST:
                raise ValueError(f"it would take more than {_MOST >> 20} MB of memory")
        with np.load(path, allow_pickle=False) as file:
            text, mean, root = (file[name] for name in ("meta", "mean", "root"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a file of reference statistics: {error}", fix=_FIX) from error
    meta = parse_json(str(text), f"{path}: its description", DataError, fix=_FIX)
    kinds = {"format": int, "name": str, "network": str, "size": int, "count": int}
    if not isinstance(meta, dict) or any(not isinstance(meta.get(key), kind) for key, kind in kinds.items()):
        raise DataError(f"{path} is not a file of reference statistics: it says {shown(str(text))}", fix=_FIX)
    fits = mean.ndim == 1 and root.ndim == 2 and root.shape[1:] == mean.shape and meta["count"] > 1
    if meta["format"] != FORMAT or not fits or not all(np.isfinite(x).all() for x in (mean, root)):
        raise DataError(f"{path}: expected statistics of format {FORMAT}, finite and of one width.", fix=_FIX)
    left_out = meta.get("left_out", {})
    return Reference(
        meta["name"],
        meta["network"],
        meta["size"],
        Moments(meta["count"], mean.astype(np.float64), root.astype(np.float64)),
        left_out if isinstance(left_out, dict) else {},
    )


def _pictures(path: Path, per_video: int) -> Iterator[UInt8]:
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        yield read_image(path)
        return
    wanted = 0
    for frame in VideoReader(path):
        if frame.time >= wanted:
            yield frame.image
            wanted += 1
            if wanted == per_video:
                return
