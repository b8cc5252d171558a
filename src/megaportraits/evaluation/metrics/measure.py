"""Computes all metrics of a protocol for one method on one sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.evaluation.methods.base import TRUE, Method
from megaportraits.evaluation.metrics import metric_networks as names
from megaportraits.evaluation.metrics.agreement import agreement, psnr
from megaportraits.evaluation.metrics.detail import detail_metrics
from megaportraits.evaluation.metrics.face_signals import (
    BLENDSHAPE_NETWORK,
    BLENDSHAPES,
    LEAST_BLENDSHAPE,
    NETWORK,
    SIGNALS,
    blendshapes_of,
    signals_of,
)
from megaportraits.evaluation.metrics.flicker import FLOW
from megaportraits.evaluation.metrics.metric_networks import MetricNetworks, sharpness, ssim
from megaportraits.evaluation.samples import EvaluationSample
from megaportraits.faces.detector import Face, FaceAnalyzer
from megaportraits.media.images import UInt8
from megaportraits.ops.pictures import resize

Doubles = npt.NDArray[np.float64]
SHOWN = 5
"""Number of frames in contact sheets."""
THUMBNAIL = 256
"""Largest side of the images in contact sheets, pixels."""
_DETECTION_SIDE = 256
"""Smaller outputs are enlarged to this side, because the landmark network needs faces of over a hundred pixels."""
_IDENTITY_TAIL = 0.05


@dataclass(frozen=True)
class PairResult:
    """The result of one method on one pair.

    Attributes:
        metrics: values by name without the protocol, e.g. `psnr_mouth`; NaN where unknown.
        reasons: for names of metrics, why the value is NaN.
        features: (n, d), features of the outputs for the Frechet distance.
        curves: (n, 10), face signals of the outputs.
        thumbnails: some of the outputs, for contact sheets.
        worst_frames: for each metric of `evaluation.metrics.detail`, the frame that lowers it most.
        pictures: all outputs; empty if the result was read from disk, where they are stored as a video.
    """

    metrics: dict[str, float]
    reasons: dict[str, str]
    features: npt.NDArray[np.float32]
    curves: Doubles
    thumbnails: list[UInt8]
    worst_frames: dict[str, int] = field(default_factory=dict)
    pictures: list[UInt8] = field(default_factory=list, repr=False)


def measure(
    method: Method,
    sample: EvaluationSample,
    networks: MetricNetworks,
    analyzer: FaceAnalyzer,
    *,
    truth: Sequence[UInt8] | None,
    progress: Callable[[], None] = lambda: None,
) -> PairResult:
    """Measure a method on a sample.

    Args:
        method: the method to measure.
        sample: the pair with its images.
        networks: the metric networks.
        analyzer: finds faces in outputs. It should not reject animals, because outputs may be distorted.
        truth: the ground truth of the outputs (the driver's crops in `self`, the teacher's images in `student`); None
            where there is none (`cross`, `hr`).
        progress: called after each frame.

    Raises:
        FaceError, DataError, MediaError: the method cannot process this sample.
    """
    pictures: list[UInt8] = []
    for picture in method.perform(sample):
        pictures.append(resize(picture, sample.size))
        progress()
    metrics: dict[str, float] = {}
    if truth is not None and method.name != TRUE:
        metrics |= _against_truth(pictures, truth, sample, networks)
    faces = redetect(pictures, analyzer)
    found, reasons = _motion(sample, faces)
    metrics |= found
    drivers = [(true.square, true.face_in_square) for true in sample.frames]
    found, missing, worst = detail_metrics(pictures, faces, drivers, (sample.photo, sample.face))
    metrics, reasons = metrics | found, reasons | missing
    metrics |= _identity(pictures, faces, sample, networks)
    metrics |= _steadiness(pictures, sample, networks)
    regions = [true.regions for true in sample.frames]
    sharp = [sharpness(picture, region.face) for picture, region in zip(pictures, regions, strict=True)]
    metrics[names.SHARPNESS] = float(np.mean(sharp))
    if networks.quality is not None:
        metrics[networks.quality] = float(np.mean([networks.score(picture) for picture in pictures]))
    shown = np.linspace(0, len(pictures) - 1, SHOWN).round().astype(int).tolist()
    thumbnails = [resize(pictures[i], min(sample.size, THUMBNAIL)) for i in shown]
    features = networks.features(pictures)
    return PairResult(metrics, reasons, features, signals_of(faces), thumbnails, worst, pictures)


def redetect(pictures: Sequence[UInt8], analyzer: FaceAnalyzer) -> list[Face | None]:
    """Find the face in each output, in its pixels; it is tracked from the previous output if that has one."""
    faces: list[Face | None] = []
    last: Face | None = None
    for picture in pictures:
        large = resize(picture, max(picture.shape[0], _DETECTION_SIDE))
        face = analyzer.track(large, last) if last else next(iter(analyzer.detect(large)), None)
        last = face or last
        faces.append(face)
    return [face and _scaled(face, picture.shape[0]) for face, picture in zip(faces, pictures, strict=True)]


def _scaled(face: Face, size: int) -> Face:
    """Convert a face in the enlarged image to the pixels of an image of side `size`."""
    factor = size / max(size, _DETECTION_SIDE)
    return Face(face.box * factor, face.landmarks * np.float32(factor), face.presence, face.blendshapes)


def _against_truth(
    pictures: Sequence[UInt8], truth: Sequence[UInt8], sample: EvaluationSample, networks: MetricNetworks
) -> dict[str, float]:
    """PSNR, SSIM and perceptual distance, raw and masked, and PSNR by region, as means over frames."""
    rows: dict[str, list[float]] = {}
    for picture, wanted, true in zip(pictures, truth, sample.frames, strict=True):
        pairs = {"": (picture, wanted)}
        if true.head is not None:
            mask = true.head[..., None]  # both images are masked before measuring (4.4)
            pairs["_masked"] = (picture * mask, wanted * mask)
        for suffix, pair in pairs.items():
            rows.setdefault(f"psnr{suffix}", []).append(psnr(*pair))
            rows.setdefault(f"{names.SSIM}{suffix}", []).append(ssim(*pair))
            rows.setdefault(f"{networks.perceptual}{suffix}", []).append(networks.distance(*pair))
        for region, inside in true.regions.named().items():
            rows.setdefault(f"psnr_{region}", []).append(psnr(picture, wanted, inside))
    return {name: float(np.mean(values)) for name, values in rows.items()}


def _motion(sample: EvaluationSample, faces: Sequence[Face | None]) -> tuple[dict[str, float], dict[str, str]]:
    """Agreement of the outputs' motion with the driver's, the fraction of outputs with a face, and reasons for NaN."""
    drivers = [true.face for true in sample.frames]
    metrics = {f"detected_{NETWORK}": float(np.mean([face is not None for face in faces]))}
    reasons: dict[str, str] = {}
    wanted, got = signals_of(drivers), signals_of(faces)
    for index, (signal, (unit, least)) in enumerate(SIGNALS.items()):
        follows = agreement(wanted[:, index], got[:, index], least=least, unit=unit)
        both = {f"corr_{signal}_{NETWORK}": follows.correlation, f"gain_{signal}_{NETWORK}": follows.gain}
        metrics |= both
        metrics[f"error_{signal}_{NETWORK}"] = _mean(np.abs(got[:, index] - wanted[:, index]))
        if follows.reason:
            reasons |= dict.fromkeys(both, follows.reason)
    wanted, got = blendshapes_of(drivers), blendshapes_of(faces)
    metrics[f"error_blendshapes_{BLENDSHAPE_NETWORK}"] = _mean(np.abs(got - wanted))
    for index, shape in enumerate(BLENDSHAPES):
        follows = agreement(wanted[:, index], got[:, index], least=LEAST_BLENDSHAPE)
        metrics[f"corr_{shape}_{BLENDSHAPE_NETWORK}"] = follows.correlation
    moved = np.array([metrics[f"corr_{shape}_{BLENDSHAPE_NETWORK}"] for shape in BLENDSHAPES])
    metrics[f"corr_blendshapes_{BLENDSHAPE_NETWORK}"] = _mean(moved)
    return metrics, reasons


def _identity(
    pictures: Sequence[UInt8], faces: Sequence[Face | None], sample: EvaluationSample, networks: MetricNetworks
) -> dict[str, float]:
    """Identity similarity with the source (mean and 5 % quantile over frames), and between neighbouring outputs."""
    source = networks.embedder.embed(sample.photo, sample.face.landmarks)
    seen = [
        None if face is None else networks.embedder.embed(picture, face.landmarks)
        for picture, face in zip(pictures, faces, strict=True)
    ]
    like = np.array([math.nan if e is None else float(e @ source) for e in seen])
    steps = [float(a @ b) for a, b in pairwise(seen) if a is not None and b is not None]
    known = like[np.isfinite(like)]
    return {
        networks.identity: _mean(like),
        f"{networks.identity}_worst": float(np.quantile(known, _IDENTITY_TAIL)) if len(known) else math.nan,
        f"{networks.identity}_neighbours": _mean(np.array(steps)),
    }


def _steadiness(pictures: Sequence[UInt8], sample: EvaluationSample, networks: MetricNetworks) -> dict[str, float]:
    """The warping error of the outputs, and its difference from the driver's own."""
    size = sample.size
    masks = [_widened(true.regions.face, size) for true in sample.frames]
    numbers = [true.number for true in sample.frames]
    own = networks.flow.of(pictures, masks, numbers)
    driver = networks.flow.of([true.square for true in sample.frames], masks, numbers)
    return {f"warp_error_{FLOW}": _mean(own), f"flicker_{FLOW}": _mean(own - driver)}


def _widened(mask: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """Dilate a face's mask by 2 % of the crop, so that the edge of the face is included."""
    side = 2 * round(0.02 * size) + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


def _mean(values: Doubles) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
