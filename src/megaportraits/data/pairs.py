"""Training pairs from clips, as a pure function of (seed, index), so that every step can be reproduced exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from megaportraits.data.batches import LabelledFrame, MattedImage, PairBatch
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ClipIndex
from megaportraits.data.dataset import SampleDataset, channels_first, pose_fields, read_or_redraw
from megaportraits.data.stream import Clips, Layout, StreamIndex, open_clips
from megaportraits.faces.landmarks import EXPRESSION_NAMES
from megaportraits.faces.outlines import FEATURES
from megaportraits.ops.pictures import resize


class PairDataset(SampleDataset[PairBatch]):
    """Item k is one training pair, drawn by a generator seeded with (seed, k).

    - source: a frame of a random clip.
    - target: another frame of the same clip. With probability `expressive` it is drawn so that frames with a different
      expression are more likely. In a clip of kind "photograph" the target is the photograph, frame 0. With
      `across_clips` the target of a real clip comes from any clip of the same video and person.
    - driver: the target itself, or, with probability `cross_identity`, the frame of another person of the same motion
      group with the target's motion, so that cross-driving has an exact target.

    Args:
        folder: folder of shards, its address (`data.stream`), or a mixture (`data.mixture`).
        length: number of pairs: steps of the training times batch size.
        size: side of the images, pixels.
        seed: seed of all draws.
        cross_identity: see above; in clips without a motion group the driver is always the target.
        expressive: see above; in clips without expression labels all frames are equally likely.
        across_clips: see above; `prepare` cuts a video into clips of a few seconds.
        expression_names: names of the labels that the expression readout predicts; a label that a clip does not have is
            NaN. None: the names that the data have.
        stream_shards: see `StreamIndex`.
        stream_draws: see `StreamIndex`.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        length: int,
        size: int,
        seed: int = 0,
        cross_identity: float = 0.0,
        expressive: float = 0.0,
        across_clips: bool = False,
        expression_names: tuple[str, ...] | None = (),
        stream_shards: int = 4,
        stream_draws: int = 256,
    ) -> None:
        self.index = open_clips(folder, seed=seed, shards=stream_shards, draws=stream_draws)
        self.length, self.size, self.seed = length, size, seed
        self.cross_identity, self.expressive, self.across_clips = cross_identity, expressive, across_clips
        self.expression_names = self.index.expression_names() if expression_names is None else expression_names
        if cross_identity > 0 and isinstance(self.index, ClipIndex):
            _ = self.index.groups  # computed once, before loading processes are started

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: int) -> PairBatch:
        rng = np.random.default_rng((self.seed, k))
        if isinstance(self.index, ClipIndex):
            return read_or_redraw(partial(self._pair, self.index), rng)
        item = read_or_redraw(partial(self._pair, self.index.at(k)), rng)
        return replace(item, unreadable=item.unreadable + self.index.lost())

    @property
    def unreadable(self) -> Sequence[str]:
        """See `SampleDataset`."""
        return self.index.unreadable

    def spread(self, layout: Layout) -> None:
        """See `SampleDataset`."""
        if isinstance(self.index, StreamIndex):
            self.index.layout = layout

    def close(self) -> None:
        """Delete the shards that this process has downloaded; the data set must not be used afterwards."""
        if isinstance(self.index, StreamIndex):
            self.index.close()

    def _pair(self, clips: Clips, rng: np.random.Generator) -> PairBatch:
        clip = clips.draw(rng)
        record = clips.record(clip)
        count = len(record.frames)
        first = int(rng.integers(count))
        second = int((first + 1 + rng.integers(max(count - 1, 1))) % count)
        if rng.random() < self.expressive:
            second = other_expression(record, first, second, rng)
        if record.kind == "photograph":
            first, second = max(first, second), 0
        target_clip = clip
        if self.across_clips and record.kind == "real":
            target_clip = _sibling(clips, clip, rng)
            if target_clip != clip:
                second = int(rng.integers(len(clips.record(target_clip).frames)))
        driver_clip = target_clip if target_clip != clip else self._partner(clips, clip, rng)
        source, target = self._labelled(clips, clip, first), self._labelled(clips, target_clip, second)
        driver = MattedImage(target.image, target.matte)
        if driver_clip != target_clip:
            driver = MattedImage(*self._pixels(clips.read_frame(driver_clip, second, coords=False)))
        return PairBatch(
            source=source,
            target=target,
            driver=driver,
            identity=torch.tensor(clip),
            person=torch.tensor(person_of(record, clip)),
            cross=torch.tensor(driver_clip != target_clip),
        )

    def _partner(self, clips: Clips, clip: int, rng: np.random.Generator) -> int:
        if not rng.random() < self.cross_identity:
            return clip
        others = [c for c in clips.partners(clip) if c != clip]
        return others[int(rng.integers(len(others)))] if others else clip

    def _pixels(self, frame: ClipFrame) -> tuple[Tensor, Tensor]:
        return channels_first(resize(frame.image, self.size)), channels_first(resize(frame.matte, self.size))

    def _labelled(self, clips: Clips, clip: int, number: int) -> LabelledFrame:
        frame, record = clips.read_frame(clip, number), clips.record(clip)
        labels = frame.labels
        image, matte = self._pixels(frame)
        coords = np.zeros((64, 64, 4), np.float32) if frame.coords is None else frame.coords
        valid = np.zeros((64, 64), bool) if frame.valid is None else frame.valid
        return LabelledFrame(
            image=image,
            matte=matte,
            **pose_fields(labels.pose),
            readout=torch.from_numpy(expression_labels(labels, record, self.expression_names)),
            blendshapes=torch.from_numpy(blendshape_labels(labels, record)),
            landmarks=torch.from_numpy(feature_landmarks(labels if record.kind == "real" else None)),
            coords=torch.from_numpy(coords),
            valid=torch.from_numpy(valid),
        )

    def describe(self, batch: PairBatch) -> list[str]:
        """The clip key of every sample of a batch."""
        name = self.index.name if isinstance(self.index, StreamIndex) else lambda clip: self.index.record(clip).key
        return [name(clip) for clip in batch.identity.tolist()]


def _sibling(clips: Clips, clip: int, rng: np.random.Generator) -> int:
    """A random clip of the same video; this clip itself if the drawn one shows another person."""
    others = clips.siblings(clip)
    chosen = others[int(rng.integers(len(others)))]
    return chosen if clips.record(chosen).identity == clips.record(clip).identity else clip


def person_of(record: ClipRecord, clip: int) -> int:
    """A number for the person in a clip, equal in every process. Clips of unknown people count as different people."""
    name = f"person {record.identity}" if record.identity else f"clip {clip}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little", signed=True)


def other_expression(record: ClipRecord, first: int, second: int, rng: np.random.Generator) -> int:
    """Draw a frame, with a probability proportional to the squared distance of its expression labels to `first`'s.

    Returns `second` if the labels are unknown or all equal.
    """
    expressions = [labels.expression for labels in record.frames]
    if any(e is None for e in expressions):
        return second
    known = np.stack([e for e in expressions if e is not None]).astype(np.float64)
    distance = ((known - known[first]) ** 2).sum(1)
    return int(rng.choice(len(distance), p=distance / distance.sum())) if distance.sum() > 0 else second


def feature_landmarks(labels: FrameLabels | None) -> npt.NDArray[np.float32]:
    """(n, 2): the points of `faces.outlines.FEATURES`, in crop units; NaN if there are no landmarks."""
    if labels is None or labels.landmarks is None:
        return np.full((len(FEATURES), 2), np.nan, np.float32)
    return labels.landmarks[list(FEATURES)].astype(np.float32)


def blendshape_labels(labels: FrameLabels, record: ClipRecord) -> npt.NDArray[np.float32]:
    """(52,): MediaPipe's blendshapes in the order of `BLENDSHAPE_NAMES`; NaN where they are unknown.

    The expression labels of real clips are MediaPipe's blendshapes. Those of synthetic clips are the exact values of
    the rendering, and not used here.
    """
    if labels.scores is not None:
        return labels.scores.astype(np.float32)
    if record.kind != "real" or labels.expression is None:
        return np.full(len(EXPRESSION_NAMES), np.nan, np.float32)
    known = dict(zip(record.expression_names, labels.expression, strict=True))
    return np.array([known.get(name, np.nan) for name in EXPRESSION_NAMES], np.float32)


def expression_labels(labels: FrameLabels, record: ClipRecord, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """(len(names) + 2,): expression labels, then gaze yaw and pitch in units of 25 degrees; NaN if unknown."""
    out = np.full(len(names) + 2, np.nan, np.float32)
    if labels.expression is not None:
        known = dict(zip(record.expression_names, labels.expression, strict=True))
        out[: len(names)] = [known.get(name, np.nan) for name in names]
    if labels.gaze is not None:
        out[-2:] = labels.gaze / 25
    return out
