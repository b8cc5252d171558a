"""The clip record (`KEY.json` of `docs/conventions.md`), the labels of its frames, and frames with pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.data.codec import MOST_PIXELS
from megaportraits.ops.geometry import HeadPose
from megaportraits.reading import shown

FORMAT = 1
KINDS = ("lifted", "cg", "real", "photograph")
"""Origins of clips. Frame 0 of a "photograph" is the photograph itself; the other frames are renderings of it."""
LANDMARKS, SCORES = 478, 52
MOST_FPS, MOST_SCALE = 1e6, 1e3
"""Upper limits of frame rate and head scale; a record with larger values is damaged."""


@dataclass(frozen=True)
class FrameLabels:
    """The labels of one frame (`docs/conventions.md`); None where a label is unknown.

    Attributes:
        rotation: (3, 3) float64, head axes to camera axes.
        translation: (2,) float64, crop units, y down.
        scale: 1 when the head fills a crop 32 cm wide.
        expression: (n,) float32 expression labels, named by the clip's `expression_names`.
        gaze: (2,) float32, yaw and pitch in degrees relative to the head.
        blink: (2,) float32 in [0, 1] (1 is closed), the subject's left and right eye.
        landmarks: (478, 2) float32, crop units.
        scores: (52,) float32 in [0, 1], the blendshapes that MediaPipe estimates from a synthetic frame, in the order
            of `faces.landmarks.BLENDSHAPE_NAMES`. Real clips have them in `expression`.
    """

    rotation: npt.NDArray[np.float64]
    translation: npt.NDArray[np.float64]
    scale: float
    expression: npt.NDArray[np.float32] | None = None
    gaze: npt.NDArray[np.float32] | None = None
    blink: npt.NDArray[np.float32] | None = None
    landmarks: npt.NDArray[np.float32] | None = None
    scores: npt.NDArray[np.float32] | None = None

    @property
    def pose(self) -> HeadPose:
        """The head pose."""
        return HeadPose(self.rotation, self.translation, self.scale)

    def to_json(self) -> dict[str, Any]:
        """The frame's entry in `KEY.json`. All labels but the pose are rounded to five decimals.

        `scores` is left out where it is unknown.
        """

        def rounded(values: npt.NDArray[np.float32] | None) -> list[Any] | None:
            return None if values is None else np.round(values.astype(np.float64), 5).tolist()

        return {
            "rotation": np.asarray(self.rotation, np.float64).reshape(9).tolist(),
            "translation": np.asarray(self.translation, np.float64).tolist(),
            "scale": float(self.scale),
            "expression": rounded(self.expression),
            "gaze": rounded(self.gaze),
            "blink": rounded(self.blink),
            "landmarks": rounded(self.landmarks),
        } | ({} if self.scores is None else {"scores": rounded(self.scores)})

    @staticmethod
    def from_json(entry: dict[str, Any], names: tuple[str, ...]) -> FrameLabels:
        """The inverse of `to_json`; `names` are the names of the clip's expression labels.

        Raises:
            KeyError, TypeError, ValueError: the entry is not a frame.
        """

        def array(name: str, *shape: int) -> npt.NDArray[np.float32] | None:
            return None if entry.get(name) is None else _finite(entry[name], name, *shape).astype(np.float32)

        scale = float(entry["scale"])
        if not 0 < scale < MOST_SCALE:
            raise ValueError(f"scale: expected a positive number below {MOST_SCALE}, got {scale}")
        return FrameLabels(
            rotation=_finite(entry["rotation"], "rotation", 9).reshape(3, 3),
            translation=_finite(entry["translation"], "translation", 2),
            scale=scale,
            expression=array("expression", len(names)),
            gaze=array("gaze", 2),
            blink=array("blink", 2),
            landmarks=array("landmarks", LANDMARKS, 2),
            scores=array("scores", SCORES),
        )


@dataclass(frozen=True)
class ClipRecord:
    """One clip without its pixels: identity, image size, and the labels of every frame.

    `docs/conventions.md` describes every value.
    """

    key: str
    kind: str
    identity: str
    motion_group: str | None
    size: int
    fps: float
    expression_names: tuple[str, ...]
    frames: tuple[FrameLabels, ...]

    def to_json(self) -> dict[str, Any]:
        """The content of `KEY.json`."""
        return {
            "format": FORMAT,
            "key": self.key,
            "kind": self.kind,
            "identity": self.identity,
            "motion_group": self.motion_group,
            "size": self.size,
            "fps": self.fps,
            "expression_names": list(self.expression_names),
            "frames": [frame.to_json() for frame in self.frames],
        }

    @staticmethod
    def from_json(entry: Any) -> ClipRecord:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: the entry is not a clip record.
        """
        if not isinstance(entry, dict):
            raise TypeError(f"expected an object, got {shown(entry)}")
        if entry["format"] != FORMAT:
            raise ValueError(f"clip format {shown(entry['format'])}, this version reads {FORMAT}")
        if entry["kind"] not in KINDS:
            raise ValueError(f"kind {shown(entry['kind'])} is none of {KINDS}")
        names, group = entry["expression_names"], entry["motion_group"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"expression_names: expected a list of names, got {shown(names)}")
        if group is not None and not isinstance(group, str):
            raise ValueError(f"motion_group: expected a name or null, got {shown(group)}")
        size, fps = int(entry["size"]), float(entry["fps"])
        if not 1 <= size <= MOST_PIXELS or not 0 <= fps < MOST_FPS:
            raise ValueError(f"size and fps: expected 1 to {MOST_PIXELS} and 0 to {MOST_FPS}, got {size} and {fps}")
        frames = tuple(FrameLabels.from_json(frame, tuple(names)) for frame in entry["frames"])
        if not frames:
            raise ValueError("a clip without frames")
        return ClipRecord(
            key=str(entry["key"]),
            kind=str(entry["kind"]),
            identity=str(entry["identity"]),
            motion_group=group,
            size=size,
            fps=fps,
            expression_names=tuple(names),
            frames=frames,
        )


def _finite(values: Any, name: str, *shape: int) -> npt.NDArray[np.float64]:
    """Values as an array of the given shape; ValueError for another shape or values that are not finite."""
    found = np.asarray(values, np.float64)
    if found.shape != shape or not np.isfinite(found).all():
        raise ValueError(f"{name}: expected finite numbers of shape {shape}, got {shown(values)}")
    return found


@dataclass(frozen=True)
class ClipFrame:
    """One frame with its pixels.

    Attributes:
        image: (S, S, 3) uint8 RGB, straight colours (not multiplied by alpha).
        matte: (S, S) uint8 alpha.
        labels: the frame's labels.
        coords: (64, 64, 4) float32, canonical X, Y, Z and camera depth of the visible surface, or None.
        valid: (64, 64) bool, the cells where `coords` is known, or None.
    """

    image: npt.NDArray[np.uint8]
    matte: npt.NDArray[np.uint8]
    labels: FrameLabels
    coords: npt.NDArray[np.float32] | None = None
    valid: npt.NDArray[np.bool_] | None = None
