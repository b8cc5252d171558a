"""Single labelled frames from clips, for networks that take one image: head pose, gaze and blink."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from megaportraits.data.batches import FrameBatch
from megaportraits.data.clip_schema import FrameLabels
from megaportraits.data.clip_table import ClipSummary
from megaportraits.data.clips import ClipIndex
from megaportraits.data.dataset import SampleDataset, channels_first, pose_fields, read_or_redraw
from megaportraits.data.gaze_labels import EyeLabel, read_gaze_labels
from megaportraits.data.pairs import feature_landmarks
from megaportraits.errors import DataError
from megaportraits.ops.pictures import resize


class FrameDataset(SampleDataset[FrameBatch]):
    """Item k is one frame, drawn by a generator seeded with (seed, k): first a clip, then one of its frames.

    Args:
        folder: folder with shards of clips, or a mixture (`data.mixture`).
        length: number of items; 0: the number of usable frames.
        size: side of the images, pixels.
        seed: seed of all draws.
        labels: label file of a gaze teacher. Frames that it does not name are left out, and the clips' own gaze and
            blink are not used.
        landmarks: whether items have `landmarks` (143, 2) of `faces.outlines.FEATURES`, in crop units. Then frames
            without landmarks are left out.

    Raises:
        DataError: no shard or no record is readable, `labels` cannot be read, or no frame is left.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        length: int,
        size: int,
        seed: int = 0,
        labels: Path | None = None,
        landmarks: bool = False,
    ) -> None:
        self.index, self.size, self.seed = ClipIndex(folder, skip_unreadable=True), size, seed
        clips = dict(self.index.summaries())
        if not clips:
            raise DataError(f"No record of the clips in {folder} can be read.", fix="Make them again.")
        # Arrays, not lists: a data set of 100,000 clips has five million frames.
        counts = np.array([summary.frames for summary in clips.values()])
        self.clips = np.repeat(np.array(list(clips), np.int64), counts)
        self.numbers = np.arange(len(self.clips)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.labels = None if labels is None else read_gaze_labels(labels)
        usable = np.ones(len(self.clips), bool)
        if self.labels is not None:
            usable = np.concatenate(_labelled(clips.values(), self.labels))
            if not usable.any():
                raise DataError(f"{labels} names no frame of the clips in {folder}.", fix="Check the clip keys in it.")
        self.landmarks = landmarks
        if landmarks:
            usable &= np.concatenate([summary.landmarks for summary in clips.values()])
            if not usable.any():
                raise DataError(
                    f"no{' labelled' if self.labels else ''} frame of the clips in {folder} has landmarks",
                    fix="`prepare` and `synth --measure` store them. `train gaze`: --set model.keypoint_input=pose.",
                )
        self.clips, self.numbers = self.clips[usable], self.numbers[usable]
        self.bounds = [0, *np.searchsorted(self.clips, self.index.ends).tolist()]
        for share, first, end in zip(self.index.shares, self.bounds, self.bounds[1:], strict=False):
            if first == end:
                raise DataError(f"no frame in {share.folder} can be used", fix="Take that folder out of the mixture.")
        self.length = length or len(self.clips)

    def __len__(self) -> int:
        return self.length

    @property
    def unreadable(self) -> Sequence[str]:
        """See `SampleDataset`."""
        return self.index.unreadable

    def __getitem__(self, k: int) -> FrameBatch:
        return read_or_redraw(self._frame, np.random.default_rng((self.seed, k)))

    def _frame(self, rng: np.random.Generator) -> FrameBatch:
        clip, number = self._draw(rng)
        record, frame = self.index.record(clip), self.index.read_frame(clip, number, coords=False)
        known = self._eyes(record.key, number, frame.labels)
        return FrameBatch(
            image=channels_first(resize(frame.image, self.size)),
            matte=channels_first(resize(frame.matte, self.size)),
            **pose_fields(frame.labels.pose),
            gaze=torch.from_numpy(known.gaze.astype(np.float32)),
            blink=torch.tensor(known.blink, dtype=torch.float32),
            real=torch.tensor(record.kind == "real"),
            clip=torch.tensor(clip),
            frame=torch.tensor(number),
            landmarks=torch.from_numpy(feature_landmarks(frame.labels)) if self.landmarks else None,
        )

    def describe(self, batch: FrameBatch) -> list[str]:
        """Clip key and frame of every sample of a batch."""
        pairs = zip(batch.clip.tolist(), batch.frame.tolist(), strict=True)
        return [f"{self.index.record(clip).key}[{frame}]" for clip, frame in pairs]

    def _draw(self, rng: np.random.Generator) -> tuple[int, int]:
        if self.labels is not None or self.landmarks:
            share = self.index.draw_share(rng)
            chosen = int(rng.integers(self.bounds[share], self.bounds[share + 1]))
            return int(self.clips[chosen]), int(self.numbers[chosen])
        clip = self.index.draw(rng)
        return clip, int(rng.integers(len(self.index.record(clip).frames)))

    def _eyes(self, key: str, number: int, labels: FrameLabels) -> EyeLabel:
        if self.labels is not None:
            return self.labels[key, number]
        gaze = np.full(2, np.nan, np.float32) if labels.gaze is None else labels.gaze
        return EyeLabel(gaze, float("nan") if labels.blink is None else float(np.mean(labels.blink)))


def _labelled(clips: Iterable[ClipSummary], labels: Mapping[tuple[str, int], EyeLabel]) -> list[npt.NDArray[np.bool_]]:
    """For each clip, which of its frames a label file names: (frames,) bool."""
    named: dict[str, list[int]] = defaultdict(list)
    for key, number in labels:
        named[key].append(number)
    nothing: list[int] = []
    return [np.isin(np.arange(summary.frames), named.get(summary.key, nothing)) for summary in clips]
