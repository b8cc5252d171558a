"""Build one clip frame by frame: stable crop, labels and members."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from megaportraits.data.clip_schema import ClipRecord, FrameLabels
from megaportraits.data.codec import encode_image, encode_matte, encode_webp
from megaportraits.faces.crop import extract
from megaportraits.faces.detector import Face
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES, EXPRESSION_NAMES
from megaportraits.faces.matting import foreground
from megaportraits.faces.networks import Image
from megaportraits.faces.parsing import region_mask
from megaportraits.faces.pose import fit_pose
from megaportraits.faces.regions import face_regions
from megaportraits.faces.tracking import CropTracker
from megaportraits.ops.geometry import Crop, matrix_to_euler
from megaportraits.prepare import measures
from megaportraits.prepare.settings import ExtractSettings

Member = tuple[str, bytes]
_EMBED_EVERY = 4
STRANGER = 0.3
"""Cosine to the clip's mean embedding below which a face is another person."""
_HEADROOM = 0.9
"""A head smaller than the frame size is stored smaller by this factor, so that it can shrink without a new clip."""


class MattingModel(Protocol):
    """Protocol of `faces.matting.Matting`."""

    def matte(self, image: Image, face: Face, crop: Crop, size: int) -> npt.NDArray[np.float32]: ...


class Embedder(Protocol):
    """Protocol of `faces.recognition.FaceEmbedder`."""

    def embed(self, image: Image, landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]: ...


class Quality(Protocol):
    """Image quality of a head crop (n, n, 3), given its face (n, n) bool; higher is better."""

    def __call__(self, image: Image, face: npt.NDArray[np.bool_]) -> float: ...


@dataclass(frozen=True)
class Instruments:
    """The networks for one clip; one set per process."""

    matting: MattingModel
    embedder: Embedder
    quality: Quality


@dataclass(frozen=True)
class Clip:
    """A finished clip: the numbers of the index, and the members of the shard without their key."""

    row: dict[str, Any]
    members: list[Member]


@dataclass
class _Frame:
    labels: FrameLabels
    extras: dict[str, float]
    members: list[Member]
    crop_px: float
    inside: float
    people: int
    iris_ratio: float
    thumbnail: npt.NDArray[np.uint8]


@dataclass
class Cutter:
    """Collects the frames of one head.

    `add` returns whether the frame was added; if not, the clip ends and a new cutter takes the frame. With `inside` the
    crop of a still is moved and shrunk until it lies in the picture.
    """

    settings: ExtractSettings
    instruments: Instruments
    still: bool = False
    inside: bool = False
    size: int = 0
    _frames: list[_Frame] = field(default_factory=list)
    _embeddings: list[npt.NDArray[np.float32]] = field(default_factory=list)
    _verified: int = 0
    _tracker: CropTracker = field(default_factory=lambda: CropTracker("follow"))
    _last: tuple[Image, Face] | None = None

    def add(self, image: Image, face: Face, time: float, people: int) -> bool:
        """Add a frame: the picture (H, W, 3), the head's face in it, its time in seconds, the number of people."""
        if len(self._frames) >= self.settings.max_frames:
            return False
        crop = self._tracker.update(fit_pose(face.landmarks), time)
        if self.inside:
            crop = moved_inside(crop, image.shape[1], image.shape[0])
        if not self._frames:
            self.size = self._size_for(crop)
        elif crop.side < self.size:
            return False  # frames are never upscaled
        if len(self._frames) % _EMBED_EVERY == 0 and not self._verify(image, face, len(self._frames) + 1):
            return False
        self._frames.append(self._measure(image, face, crop, time, people))
        self._last = image, face
        return True

    def finish(self) -> Clip | None:
        """The clip, without unverified frames at its end; None if it is too short."""
        if self._last is not None and self._verified < len(self._frames):
            self._verify(*self._last, len(self._frames))
        del self._frames[self._verified :]
        if len(self._frames) < (1 if self.still else self.settings.min_frames):
            return None
        mean = np.mean(self._embeddings, axis=0)
        mean /= max(float(np.linalg.norm(mean)), 1e-9)
        extras = {
            "embedding": [round(float(value), 5) for value in mean],
            "source_times": [frame.extras["time"] for frame in self._frames],
            "frame_measures": {
                name: [round(frame.extras[name], 4) for frame in self._frames]
                for name in ("presence", "sharpness", "iqa")
            },
        }
        record = self._record().to_json() | extras
        members = [("json", json.dumps(record, allow_nan=False).encode())]
        for number, frame in enumerate(self._frames):
            members += [(f"{number:03d}.{suffix}", content) for suffix, content in frame.members]
        return Clip(self._row(mean), members)

    def _size_for(self, crop: Crop) -> int:
        small = crop.side * (1.0 if self.still else _HEADROOM)
        return max(min(self.settings.size, int(small)), 8)

    def _verify(self, image: Image, face: Face, count: int) -> bool:
        """Compare a face with the clip so far; if it is the same person's, the first `count` frames are verified."""
        vector = self.instruments.embedder.embed(image, face.landmarks)
        if self._embeddings and float(np.mean(self._embeddings, axis=0) @ vector) < STRANGER:
            return False
        self._embeddings.append(vector)
        self._verified = count
        return True

    def _measure(self, image: Image, face: Face, crop: Crop, time: float, people: int) -> _Frame:
        height, width = image.shape[:2]
        pose = fit_pose(face.landmarks).to_crop_pose(crop)
        points = crop.image_to_crop(face.landmarks[:, :2]).astype(np.float32)
        picture = extract(image, crop, self.size)
        alpha = self.instruments.matting.matte(image, face, crop, self.size)
        matte = np.rint(alpha * 255).astype(np.uint8)
        straight = _straight(picture, alpha)
        regions = region_mask(picture, matte, points, pose)
        visible = face_regions(points, self.size).face
        blink = [face.blendshape(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]
        labels = FrameLabels(
            rotation=pose.rotation,
            translation=pose.translation,
            scale=pose.scale,
            expression=np.clip(face.blendshapes, 0, 1),
            blink=np.clip(np.array(blink, np.float32), 0, 1),
            landmarks=points,
        )
        extras = {
            "time": round(time, 4),
            "presence": face.presence,
            "sharpness": measures.sharpness(picture, visible),
            "iqa": self.instruments.quality(picture, visible),
        }
        return _Frame(
            labels,
            extras,
            [self._encoded(straight), ("matte.png", encode_matte(matte)), ("regions.png", encode_matte(regions))],
            crop.side,
            measures.inside(crop, width, height),
            people,
            measures.iris_ratio(face.landmarks),
            measures.thumbnail(picture),
        )

    def _encoded(self, image: Image) -> Member:
        if self.settings.image == "webp":
            return "webp", encode_webp(image, self.settings.quality)
        return "jpg", encode_image(image, self.settings.quality)

    def _record(self) -> ClipRecord:
        times = [frame.extras["time"] for frame in self._frames]
        spread = times[-1] - times[0]
        return ClipRecord(
            key="",
            kind="real",
            identity="",
            motion_group=None,
            size=self.size,
            fps=round((len(times) - 1) / spread, 3) if spread > 0 else 0.0,
            expression_names=EXPRESSION_NAMES,
            frames=tuple(replace(frame.labels) for frame in self._frames),
        )

    def _row(self, embedding: npt.NDArray[np.floating]) -> dict[str, Any]:
        frames = self._frames
        angles = np.array([matrix_to_euler(frame.labels.rotation) for frame in frames])
        shapes = np.array([frame.labels.expression for frame in frames])
        times = [frame.extras["time"] for frame in frames]
        ends = [frames[i].thumbnail for i in (0, len(frames) // 2, -1)]
        numbers = {
            "crop_px": min(frame.crop_px for frame in frames),
            "inside": min(frame.inside for frame in frames),
            "presence": np.mean([frame.extras["presence"] for frame in frames]),
            "sharpness": np.mean([frame.extras["sharpness"] for frame in frames]),
            "iqa": np.mean([frame.extras["iqa"] for frame in frames]),
            "iris_ratio": np.median([frame.iris_ratio for frame in frames]),
            "same_person": min(float(vector @ embedding) for vector in self._embeddings),
            "start": times[0],
            "seconds": times[-1] - times[0],
            "expression_range": float(np.ptp(shapes, axis=0).mean()),
            "jaw_open": float(shapes[:, BLENDSHAPE_NAMES.index("jawOpen")].max()),
        }
        for axis, name in enumerate(("yaw", "pitch", "roll")):
            numbers[name] = angles[:, axis].mean()
            numbers[f"{name}_range"] = np.ptp(angles[:, axis])
        return {
            **{name: round(float(value), 4) for name, value in numbers.items()},
            "frames": len(frames),
            "size": self.size,
            "people": max(frame.people for frame in frames),
            "embedding": [round(float(value), 5) for value in embedding],
            "thumbnails": np.concatenate([end.ravel() for end in ends]).tobytes().hex(),
        }


def moved_inside(crop: Crop, width: int, height: int) -> Crop:
    """The largest square in a picture that a crop can become by shrinking it as little as needed, then moving it."""
    side = min(crop.side, width, height)
    x = min(max(crop.center_x, side / 2), width - side / 2)
    y = min(max(crop.center_y, side / 2), height - side / 2)
    return Crop(x, y, side)


def _straight(picture: Image, alpha: npt.NDArray[np.float32]) -> Image:
    """Estimated foreground colours where the matte is opaque, the original picture elsewhere.

    The two are blended up to half opacity, to avoid a visible outline; composites then differ by at most a tenth of the
    contrast.
    """
    share = np.clip(2 * alpha, 0, 1)[..., None]
    mixed = picture + share * (foreground(picture, alpha).astype(np.float32) - picture)
    return np.rint(mixed).astype(np.uint8)
