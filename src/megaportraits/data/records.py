"""What is known about a clip and its frames (`KEY.json` of `docs/conventions.md`), and frames with their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.ops.geometry import HeadPose

FORMAT = 1
KINDS = ("lifted", "cg", "real", "photograph")
"""Where a clip comes from; frame 0 of a "photograph" is the photograph itself, the others are renderings of it."""


@dataclass(frozen=True)
class FrameLabels:
    """What is known about one frame (`docs/conventions.md`); None where a source cannot tell.

    Attributes:
        rotation: (3, 3) float64, head axes to camera axes.
        translation: (2,) float64, crop units, y down.
        scale: 1 when the head fills a crop 32 cm wide.
        expression: (n,) float32 coefficients, named by the clip's `expression_names`.
        gaze: (2,) float32, yaw and pitch in degrees relative to the head.
        blink: (2,) float32 in [0, 1], the subject's left and right eye.
        landmarks: (478, 2) float32, crop units.
        scores: (52,) float32 in [0, 1], blendshapes as the landmark network measures them in a synthetic frame, in the
            order of `faces.landmarks.BLENDSHAPE_NAMES`; real clips have them as their `expression`.
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
        """The head pose, with its `project`."""
        return HeadPose(self.rotation, self.translation, self.scale)

    def to_json(self) -> dict[str, Any]:
        """The frame's entry in `KEY.json`; all but the pose keeps five decimals, scores are left out where unknown."""

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
    def from_json(entry: dict[str, Any]) -> FrameLabels:
        """The inverse of `to_json`; raises KeyError or ValueError when the entry is not a frame."""

        def array(name: str) -> npt.NDArray[np.float32] | None:
            value = entry.get(name)
            return None if value is None else np.asarray(value, np.float32)

        return FrameLabels(
            rotation=np.asarray(entry["rotation"], np.float64).reshape(3, 3),
            translation=np.asarray(entry["translation"], np.float64).reshape(2),
            scale=float(entry["scale"]),
            expression=array("expression"),
            gaze=array("gaze"),
            blink=array("blink"),
            landmarks=array("landmarks"),
            scores=array("scores"),
        )


@dataclass(frozen=True)
class ClipRecord:
    """One clip without its pixels: who, how large, and the labels of every frame."""

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
    def from_json(entry: dict[str, Any]) -> ClipRecord:
        """The inverse of `to_json`; raises KeyError or ValueError when the entry is not a clip record."""
        if entry["format"] != FORMAT:
            raise ValueError(f"clip format {entry['format']!r}, this version reads {FORMAT}")
        if entry["kind"] not in KINDS:
            raise ValueError(f"kind {entry['kind']!r} is none of {KINDS}")
        return ClipRecord(
            key=str(entry["key"]),
            kind=str(entry["kind"]),
            identity=str(entry["identity"]),
            motion_group=entry["motion_group"],
            size=int(entry["size"]),
            fps=float(entry["fps"]),
            expression_names=tuple(entry["expression_names"]),
            frames=tuple(FrameLabels.from_json(frame) for frame in entry["frames"]),
        )


@dataclass(frozen=True)
class Frame:
    """One frame with its pixels.

    Attributes:
        image: (S, S, 3) uint8 RGB, straight colours.
        matte: (S, S) uint8 alpha.
        labels: what is known about the frame.
        coords: (64, 64, 4) float32, canonical X, Y, Z and camera depth of the visible surface, or None.
        valid: (64, 64) bool, where `coords` says something, or None.
    """

    image: npt.NDArray[np.uint8]
    matte: npt.NDArray[np.uint8]
    labels: FrameLabels
    coords: npt.NDArray[np.float32] | None = None
    valid: npt.NDArray[np.bool_] | None = None
