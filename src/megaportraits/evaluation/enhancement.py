"""Comparison of an enhancer with bicubic upsampling of the same images (4.5, Table 2), on held-out photographs.

`own`: each photograph is driven by itself, shifted and rolled by known amounts, so that there is a ground truth at full
size. `cross`: a clip drives the photograph. There is no ground truth; identity, sharpness and flicker are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import cv2
import numpy as np
import numpy.typing as npt

from megaportraits.data.clip_schema import FrameLabels
from megaportraits.data.clips import ClipIndex
from megaportraits.data.photos import View
from megaportraits.data.shard_index import CLIP_SHARDS
from megaportraits.errors import DataError, FaceError, MediaError
from megaportraits.evaluation.methods.base import Animator, P
from megaportraits.evaluation.metrics.agreement import psnr
from megaportraits.evaluation.metrics.flicker import FLOW
from megaportraits.evaluation.metrics.metric_networks import SHARPNESS, MetricNetworks, sharpness, ssim
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.plan import find_media
from megaportraits.evaluation.report.comparison import Comparison
from megaportraits.evaluation.samples import TrueFrame, read_sample
from megaportraits.faces.crop import extract, head_crop
from megaportraits.faces.detector import Face, FaceAnalyzer
from megaportraits.faces.matting import Matting
from megaportraits.faces.pose import fit_pose
from megaportraits.faces.regions import face_regions
from megaportraits.media import read_image
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import Crop, HeadPose
from megaportraits.ops.pictures import resize

GREY = 128
"""Grey level of the background behind every person."""
_VIEWS = (View(np.array([0.04, -0.03]), 0.93, 7.0), View(np.array([-0.05, 0.02]), 0.9, -9.0))
_SHOWN = 4

HrMethod = Callable[[npt.NDArray[np.float32], int], npt.NDArray[np.float32]]
"""Brings an animator's premultiplied image (n, n, 4) to the compared size."""


@dataclass(frozen=True)
class Photo:
    """A head crop to test with: name, image (n, n, 3), and labels with the head pose in it."""

    name: str
    image: UInt8
    labels: FrameLabels


def find_photos(folder: Path, analyzer: FaceAnalyzer, *, size: int, limit: int) -> tuple[list[Photo], dict[str, str]]:
    """Find the photographs with large enough head crops in a folder of images or of shards.

    Args:
        folder: images, or shards of clips; of a clip the first frame is used.
        analyzer: finds the faces in images.
        size: compared size, pixels; head crops must have at least 0.75 of it.
        limit: largest number of photographs.

    Returns:
        The photographs, and for each of the others the reason why it was skipped.

    Raises:
        DataError: no photograph is usable.
    """
    photos: list[Photo] = []
    skipped: dict[str, str] = {}
    if any(folder.glob(CLIP_SHARDS)):
        index = ClipIndex(folder)
        for clip, summary in index.summaries():
            if summary.size < 0.75 * size:
                skipped[summary.key] = f"{summary.size} px"
            elif len(photos) < limit:
                frame = index.read_frame(clip, 0, coords=False)
                photos.append(Photo(summary.key, frame.image, frame.labels))
    else:
        for path in find_media([folder], videos=False):
            if len(photos) == limit:
                break
            try:
                photos.append(_from_picture(path, analyzer, size))
            except (FaceError, MediaError, DataError) as error:
                skipped[path.name] = error.message
    if not photos:
        why = next(iter(skipped.items()), ("the folder", "is empty"))
        raise DataError(
            f"{folder}: no photograph is usable for {size} px ({why[0]}: {why[1]})",
            fix="Give portraits whose heads are large enough, as pictures or as shards of `prepare`.",
        )
    return photos, skipped


def compare(
    animators: Mapping[str, tuple[Animator[P], HrMethod]],
    photos: Sequence[Photo],
    drivers: Sequence[TrueFrame],
    *,
    size: int,
    analyzer: FaceAnalyzer,
    networks: MetricNetworks | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Comparison:
    """Drive every photograph by itself and by a clip, with every method, and compute the metrics.

    Args:
        animators: animators with their methods, by the method's name; the first is the baseline.
        photos: the photographs, from `find_photos`.
        drivers: consecutive frames of a clip, from `read_drivers`; if empty, `cross` is left out.
        size: side of the results, pixels.
        analyzer: finds faces in results.
        networks: the metric networks; None: new ones on the CPU.
        progress: called with the number of photographs done and in total.

    Raises:
        DataError: no face was found in any photograph's crop.
    """
    report = Comparison(size, tuple(animators))
    report.columns = ("photograph", *(f"{m}, own" for m in animators), "truth", *(f"{m}, cross" for m in animators))
    bench = _Bench(report, animators, drivers, analyzer, networks or MetricNetworks())
    for number, photo in enumerate(photos):
        if progress is not None:
            progress(number, len(photos))
        try:
            row = bench.measure(photo)
        except FaceError as error:
            report.skipped[photo.name] = error.message
            continue
        report.photos += 1
        if len(report.rows) < _SHOWN:
            report.rows.append(row)
    if not report.photos:
        raise DataError("No face was found in any of the photographs' crops.", fix="Give other photographs.")
    return report


def read_drivers(clip: Path, analyzer: FaceAnalyzer, *, size: int, frames: int) -> list[TrueFrame]:
    """Read the first frames of a clip as head crops, without gaps, because flicker compares neighbouring frames.

    Raises:
        MediaError: the clip cannot be read.
        FaceError: the clip shows no face.
    """
    pair = Pair("driver", "cross", clip, 0, clip, first=0, step=1, frames=frames)
    return read_sample(pair, analyzer, Matting(), size).frames


def as_it_is(picture: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """The animator's own pixels, resized only if the size differs."""
    if picture.shape[0] == size:
        return picture
    how = cv2.INTER_AREA if picture.shape[0] > 1.5 * size else cv2.INTER_CUBIC  # INTER_AREA blurs at factors near 1
    return _valid(cv2.resize(picture, (size, size), interpolation=how))


def bicubic_from(small: int) -> HrMethod:
    """The baseline: the image reduced to the base model's `small` pixels, then upsampled by bicubic interpolation."""

    def method(picture: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
        return _valid(resize(resize(picture, small), size))

    return method


class _Bench(Generic[P]):
    """Computes the metrics of all methods on one photograph after another, and adds them to the report."""

    def __init__(
        self,
        report: Comparison,
        animators: Mapping[str, tuple[Animator[P], HrMethod]],
        drivers: Sequence[TrueFrame],
        analyzer: FaceAnalyzer,
        networks: MetricNetworks,
    ) -> None:
        self.report, self.animators, self.drivers, self.analyzer = report, animators, drivers, analyzer
        self.networks, self.matting, self.size = networks, Matting(), report.size

    def measure(self, photo: Photo) -> UInt8:
        """Compute all metrics of a photograph; returns a row of images."""
        portraits = {name: animator.encode(photo.image) for name, (animator, _) in self.animators.items()}
        row = [_over_grey(_person(photo.image, self.analyzer, self.matting), self.size)]
        row += self._own(photo, portraits)
        row += self._cross(photo, portraits)
        return np.concatenate(row, axis=1)

    def _draw(self, name: str, portrait: P, driver: UInt8, pose: HeadPose, face: Face) -> UInt8:
        animator, method = self.animators[name]
        drawn = animator.drive(portrait, driver, pose=pose, blendshapes=face.blendshapes)
        return _over_grey(method(drawn.premultiplied, self.size), self.size)

    def _own(self, photo: Photo, portraits: Mapping[str, P]) -> list[UInt8]:
        size, networks, shown = self.size, self.networks, []
        for view in _VIEWS:
            driver, pose = view.extract(photo.image, size), view.moved(photo.labels)
            truth = _over_grey(_person(driver, self.analyzer, self.matting), size)
            face = _face(truth, self.analyzer)
            mask = face_regions(Crop(size / 2, size / 2, size).image_to_crop(face.landmarks[:, :2]), size).face
            wanted = networks.embedder.embed(truth, face.landmarks)
            pictures = {name: self._draw(name, portrait, driver, pose, face) for name, portrait in portraits.items()}
            for name, image in pictures.items():
                for metric, value in {
                    "psnr": psnr(image, truth),
                    "ssim": ssim(image, truth),
                    networks.perceptual: networks.distance(image, truth),
                    f"{SHARPNESS}_of_truth": sharpness(image, mask) / sharpness(truth, mask),
                    networks.identity: float(networks.embedder.embed(image, face.landmarks) @ wanted),
                }.items():
                    self.report.add(name, f"own/{metric}", value)
            shown = [*pictures.values(), truth]
        return shown

    def _cross(self, photo: Photo, portraits: Mapping[str, P]) -> list[UInt8]:
        if not self.drivers:
            return []
        networks, shown = self.networks, []
        wanted = networks.embedder.embed(photo.image, _face(photo.image, self.analyzer).landmarks)
        masks = [face_regions(true.points, self.size).face for true in self.drivers]
        numbers = [true.number for true in self.drivers]
        few = range(0, len(numbers), max(1, len(numbers) // 4))
        for name, portrait in portraits.items():
            images = [self._draw(name, portrait, true.square, true.pose, true.face) for true in self.drivers]
            for i in few:
                found = next(iter(self.analyzer.detect(images[i])), None)
                if found is not None:
                    likeness = float(networks.embedder.embed(images[i], found.landmarks) @ wanted)
                    self.report.add(name, f"cross/{networks.identity}", likeness)
                self.report.add(name, f"cross/{SHARPNESS}", sharpness(images[i], masks[i]))
            errors = networks.flow.of(images, masks, numbers)
            if np.isfinite(errors).any():
                self.report.add(name, f"cross/flicker_{FLOW}", float(np.nanmean(errors)))
            shown.append(images[len(images) // 2])
        return shown


def _from_picture(path: Path, analyzer: FaceAnalyzer, size: int) -> Photo:
    image = read_image(path)
    face = analyzer.require(image, path.name)[0]
    crop = head_crop(face)
    if crop.side < 0.75 * size:
        raise DataError(f"the head crop has {crop.side:.0f} px, {size} px are compared")
    square = extract(image, crop, min(round(crop.side), 2 * size))
    pose = fit_pose(face.landmarks).to_crop_pose(crop)
    return Photo(path.stem, square, FrameLabels(pose.rotation, pose.translation, pose.scale))


def _face(image: UInt8, analyzer: FaceAnalyzer) -> Face:
    found = next(iter(analyzer.detect(image)), None)
    if found is None:
        raise FaceError("no face was found in its head crop")
    return found


def _person(image: UInt8, analyzer: FaceAnalyzer, matting: Matting) -> npt.NDArray[np.float32]:
    """The person in a head crop, premultiplied by alpha, (n, n, 4)."""
    n = image.shape[0]
    matte = matting.matte(image, _face(image, analyzer), Crop(n / 2, n / 2, n), n)[..., None]
    return np.concatenate([image.astype(np.float32) / 255 * matte, matte], axis=-1).astype(np.float32)


def _over_grey(picture: npt.NDArray[np.float32], size: int) -> UInt8:
    if picture.shape[0] != size:
        picture = as_it_is(picture, size)
    mixed = picture[..., :3] * 255 + GREY * (1 - picture[..., 3:])
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def _valid(picture: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    clipped = np.clip(picture.astype(np.float32), 0, 1)
    return np.concatenate([np.minimum(clipped[..., :3], clipped[..., 3:]), clipped[..., 3:]], axis=-1)
