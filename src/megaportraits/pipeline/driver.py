"""Reading a driver: a video or still image becomes a stream of tracked head crops, in constant memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL.Image import Image

from megaportraits.errors import FaceError, ShapeError
from megaportraits.faces.crop import crop_of_pose, extract
from megaportraits.faces.detector import Face, FaceAnalyzer, pick_face
from megaportraits.faces.orientation import find_upright, turned
from megaportraits.faces.pose import FacePose, fit_pose
from megaportraits.faces.tracking import CropTracker, PoseSmoother
from megaportraits.media import DEFAULT_LIMITS, Limits, VideoFrame, VideoReader, as_image, is_video, read_image
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import Crop, matrix_to_euler

_NEUTRAL_SECONDS = 20.0
_NEUTRAL_LOOKS = 60
"""Bounds of the search for the neutral frame: length of the driver that is searched, and the approximate maximum
number of detections."""

_UPRIGHT_FRAMES, _UPRIGHT_LOOKS = 100, 10
"""To find the driver's orientation: how many frames from its start are sampled, and how many samples are taken."""

Driver = str | Path | UInt8 | Image | Sequence[UInt8 | Image]
"""A video or image file, one frame, or a list of frames; frames are (H, W, 3) uint8 or PIL images."""


@dataclass(frozen=True)
class HeadView:
    """The driver's head in one frame.

    Attributes:
        image: (S, S, 3) uint8, the head crop.
        crop: the crop's square in the frame.
        pose: head pose fitted to the landmarks, in pixels of the frame; smoothed over time by `HeadFollower`.
        face: landmarks and blendshapes.
    """

    image: UInt8
    crop: Crop
    pose: FacePose
    face: Face


@dataclass(frozen=True)
class DriverFrame:
    """A frame of the driver.

    Attributes:
        frame: picture and time.
        head: None where no face was found.
    """

    frame: VideoFrame
    head: HeadView | None


class FrameSource:
    """A driver that can be read several times.

    Args:
        driver: see `Driver`.
        fps: frames per second of a list of frames.
        limits: limits on the size of files that are read.

    Raises:
        MediaError: the file cannot be read, or exceeds a limit.
        ShapeError: the driver is none of the types that `Driver` lists.

    Attributes:
        name: the driver's name in messages.
        reader: the video file's reader, None for arrays and still images.
        still: whether the driver is a single image.
        turns: quarter turns counter-clockwise that are applied to every frame; see `turn_upright`.
    """

    def __init__(self, driver: Driver, *, fps: Fraction | float = 25, limits: Limits = DEFAULT_LIMITS) -> None:
        self.reader: VideoReader | None = None
        self._images: Sequence[UInt8] = ()
        self.name = "the driver"
        if isinstance(driver, (str, Path)):
            self.name = f"the driver {driver}"
            if is_video(driver, limits):
                self.reader = VideoReader(driver, limits=limits)
            else:
                self._images = [read_image(driver, limits=limits)]
        elif isinstance(driver, (list, tuple)) or (isinstance(driver, np.ndarray) and driver.ndim == 4):
            self._images = [
                as_image(picture, f"frame {number} of {self.name}") for number, picture in enumerate(driver)
            ]
            if not self._images:
                raise ShapeError("the driver: expected a file, a picture or a list of pictures, got an empty list")
        else:
            self._images = [as_image(driver, self.name)]
        self._fps = Fraction(fps).limit_denominator(100_000)
        self.still = self.reader is None and len(self._images) == 1
        self.turns = 0
        self._judged = False

    @property
    def fps(self) -> Fraction:
        """Average frames per second."""
        return self.reader.info.fps if self.reader else self._fps

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick of the frames' times."""
        return self.reader.info.time_base if self.reader else 1 / self._fps

    def turn_upright(self, analyzer: FaceAnalyzer) -> None:
        """Find the driver's orientation from its first face; all frames are then turned upright."""
        if self._judged:
            return
        self._judged = True
        for frame in itertools.islice(self.frames(), 0, _UPRIGHT_FRAMES, _UPRIGHT_FRAMES // _UPRIGHT_LOOKS):
            faces = analyzer.detect(frame.image)
            if faces:
                self.turns, _ = find_upright(frame.image, faces, analyzer)
                return

    def frames(self, max_seconds: float | None = None) -> Iterator[VideoFrame]:
        """The frames from the start, up to a length in seconds."""
        frames: Iterable[VideoFrame] = self.reader or (
            VideoFrame(image, index, self.time_base) for index, image in enumerate(self._images)
        )
        start: float | None = None
        for frame in frames:
            start = frame.time if start is None else start
            if max_seconds is not None and frame.time - start >= max_seconds:
                return
            yield replace(frame, image=turned(frame.image, self.turns))

    def picture(self, share: float, max_seconds: float | None = None) -> UInt8:
        """The frame at a fraction of the driver's length, 0 to 1; the first where the file states no length."""
        if self.reader is None:
            used = self.count(max_seconds) or 1
            return turned(self._images[min(int(share * used), used - 1)], self.turns)
        longest = float("inf") if max_seconds is None else max_seconds
        start = share * min(self.reader.info.duration or 0.0, longest)
        frames = VideoReader(self.reader.path, start=start, limits=self.reader.limits)
        later = itertools.dropwhile(lambda frame: frame.time < start, frames)
        # A file may state more frames than it holds.
        return turned((next(later, None) or next(iter(self.reader))).image, self.turns)

    def count(self, max_seconds: float | None = None) -> int | None:
        """The estimated number of frames that `frames` yields; None where the file does not state it."""
        known = self.reader.info.frames if self.reader else len(self._images)
        if max_seconds is None:
            return known
        longest = max(1, round(max_seconds * float(self.fps)))
        return longest if known is None else min(known, longest)


class HeadFollower:
    """Tracks one head through the frames of a video, from the first frame that shows the requested face.

    Args:
        analyzer: face analyzer; nothing else may use it while the follower runs.
        size: side of the head crops, pixels.
        face: which face, counted from 1 from left to right; None takes the largest.
        rest: see `keep_near`.
    """

    def __init__(self, analyzer: FaceAnalyzer, size: int, *, face: int | None = None, rest: Crop | None = None) -> None:
        self._finder = _Finder(analyzer, face)
        self._size = size
        self._tracker = CropTracker("follow") if rest is None else CropTracker("leash", crop=rest)
        self._smooth = PoseSmoother()

    def keep_near(self, rest: Crop) -> None:
        """Keep the following crops at the neutral frame's crop as long as the head fits into it.

        Poses are then comparable with the neutral frame's: a head in the same place has the same crop.
        """
        self._tracker = CropTracker("leash", crop=rest)

    def look(self, frame: VideoFrame) -> DriverFrame:
        """Find the head in the next frame."""
        face = self._finder.find(frame)
        if face is None:
            self._smooth = PoseSmoother()
            return DriverFrame(frame, None)
        pose = self._smooth(fit_pose(face.landmarks), frame.time)
        crop = self._tracker.update(pose, frame.time)
        return DriverFrame(frame, HeadView(extract(frame.image, crop, self._size), crop, pose, face))

    def missing(self, name: str, where: str = "in any frame") -> FaceError:
        """The error for a driver in which no examined frame showed the requested face."""
        fix = "Take a driver in which a face is well visible, not in profile."
        return self._finder.missing(name, where, fix)


class _Finder:
    """Detects the requested face once, then tracks it from frame to frame."""

    def __init__(self, analyzer: FaceAnalyzer, number: int | None) -> None:
        self._analyzer, self._number = analyzer, number
        self._last: Face | None = None
        self._most = 0

    def find(self, frame: VideoFrame) -> Face | None:
        if self._last is None:
            faces = self._analyzer.detect(frame.image)
            self._most = max(self._most, len(faces))
            face = pick_face(faces, self._number)
        else:
            face = self._analyzer.track(frame.image, self._last)
        self._last = face or self._last
        return face

    def missing(self, name: str, where: str, fix: str) -> FaceError:
        if not self._most:
            return FaceError(f"Expected a face in {name}, found none {where}.", fix=fix)
        return FaceError(
            f"Expected at least {self._number} faces in {name}, found at most {self._most} {where}.",
            fix="Faces are counted from 1, from left to right, in the first frame that shows so many.",
        )


def find_neutral(source: FrameSource, analyzer: FaceAnalyzer, size: int, *, face: int | None = None) -> HeadView:
    """Find the driver's neutral frame: mouth closed, eyes open, frontal.

    Examines about `_NEUTRAL_LOOKS` frames spread over the first `_NEUTRAL_SECONDS`.

    Args:
        source: the driver.
        analyzer: finds and tracks the face.
        size: side of the head crop, pixels.
        face: which face, see `HeadFollower`.

    Raises:
        FaceError: none of the examined frames shows that face.
    """
    frames = source.frames(_NEUTRAL_SECONDS)
    count = source.count(_NEUTRAL_SECONDS) or _NEUTRAL_LOOKS
    step = max(1, -(-count // _NEUTRAL_LOOKS))
    best: tuple[float, VideoFrame, Face] | None = None
    finder = _Finder(analyzer, face)
    for frame in itertools.islice(frames, 0, None, step):
        seen = finder.find(frame)
        if seen is not None and (best is None or distance_from_neutral(seen) < best[0]):
            best = (distance_from_neutral(seen), frame, seen)
    if best is None:
        fix = "Relative motion starts from a neutral face: cut the video so that the face is seen early."
        raise finder.missing(source.name, f"in its first {_NEUTRAL_SECONDS:.0f} seconds", fix)
    _, frame, seen = best
    pose = fit_pose(seen.landmarks)
    crop = crop_of_pose(pose)
    return HeadView(extract(frame.image, crop, size), crop, pose, seen)


def distance_from_neutral(face: Face) -> float:
    """How far a face is from a relaxed, frontal one; a full expression or a turn of 25 degrees adds 1."""
    both = [
        0.5 * (face.blendshape(f"{name}Left") + face.blendshape(f"{name}Right"))
        for name in (
            "eyeBlink",
            "mouthSmile",
            "mouthFrown",
            "mouthStretch",
            "mouthUpperUp",
            "browDown",
            "eyeWide",
        )
    ]
    alone = [face.blendshape(name) for name in ("jawOpen", "mouthPucker", "mouthFunnel", "browInnerUp")]
    yaw, pitch, roll = matrix_to_euler(fit_pose(face.landmarks).rotation)
    turned = np.hypot(np.hypot(yaw, pitch), 0.5 * roll) / 25
    # Jaw opening and closed eyes count double: they are the most visible errors of a wrong neutral frame.
    return float(sum(alone) + sum(both) + alone[0] + both[0] + turned)
