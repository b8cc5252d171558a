"""Runs an evaluation from pairs to a report; `megaportraits evaluate` calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from megaportraits import __version__
from megaportraits.errors import DataError, FaceError, MediaError, WeightsError
from megaportraits.evaluation.methods.base import TRUE, Method, TrueCrops
from megaportraits.evaluation.metrics.face_signals import signals_of
from megaportraits.evaluation.metrics.measure import THUMBNAIL, PairResult, measure
from megaportraits.evaluation.metrics.metric_networks import MetricNetworks
from megaportraits.evaluation.metrics.reference import Reference
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.report.closeups import boxes_of, closeup
from megaportraits.evaluation.report.results import PairRow, Report
from megaportraits.evaluation.samples import EvaluationSample, read_sample
from megaportraits.evaluation.store import ResultStore, SampleNote, write_row
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.matting import Matting
from megaportraits.media.images import UInt8
from megaportraits.ops.pictures import resize

HR_SIZE = 1024
"""Side of head crops in the protocol `hr`."""
OnProgress = Callable[[int, int | None], None]


@dataclass
class Evaluation:
    """An evaluation of methods on pairs.

    Attributes:
        methods: the methods to measure, in the order of the tables; the true crops are added.
        pairs: the pairs to measure them on.
        out: folder of the report; results there from an interrupted run are used.
        size: side of the head crops, pixels; the protocol `hr` always uses 1024.
        teacher: the method whose images are the ground truth in the protocol `student`.
        settings: further settings that the numbers depend on, for the report.
        make_analyzer: makes a `FaceAnalyzer`.
        networks: the metric networks; None: new ones on the CPU.
        references: sets of real images for the Frechet distance, one for each size of the protocols. If empty, each
            protocol uses its own real images.
    """

    methods: Sequence[Method]
    pairs: Sequence[Pair]
    out: Path
    size: int
    teacher: Method | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    make_analyzer: Callable[..., FaceAnalyzer] = FaceAnalyzer
    networks: MetricNetworks | None = None
    references: Sequence[Reference] = ()

    def run(self, progress: OnProgress = lambda done, expected: None) -> Report:
        """Measure everything that has no stored result; the report lists pairs that cannot be used.

        Args:
            progress: called with the number of frames done and in total.

        Raises:
            DataError: two methods have the same name, the protocol `student` has no teacher, or the references have
                other sizes or networks.
        """
        self._check()
        networks, matting = self.networks or MetricNetworks(), Matting()
        references = self._references(networks)
        videos, outputs = self.make_analyzer(), self.make_analyzer(reject_animals=False)
        store = ResultStore(self.out / "results", networks)
        methods: list[Method] = [TrueCrops(), *self.methods]
        count = _Count(sum(pair.frames for pair in self.pairs) * len(methods), progress)
        rows: list[PairRow] = []
        for pair in self.pairs:
            size = HR_SIZE if pair.protocol == "hr" else self.size
            row = PairRow(pair, store.load_note(pair, size))
            missing = []
            for method in methods:
                known = store.load(method, pair, size)
                if known is None:
                    missing.append(method)
                else:
                    row.results[method.name] = known
                    count.skip(pair.frames)
            rows.append(row)
            if not missing and row.note is not None:
                continue
            try:
                sample = read_sample(pair, videos, matting, size)
            except (FaceError, MediaError, DataError) as error:
                row.failed[""] = error.message
                count.skip(pair.frames * len(missing))
                continue
            row.note = _note(sample, networks)
            store.save_note(pair, size, row.note)
            self._measure(sample, missing, row, store, networks, outputs, count)
        settings = {"version": __version__, "size": self.size, **self.settings}
        settings |= {f"real pictures of {name}": reference.describe() for name, reference in references.items()}
        described = {method.name: dict(method.settings) for method in methods}
        return Report(
            settings,
            described,
            rows,
            identity=networks.identity,
            perceptual=networks.perceptual,
            frechet=networks.frechet,
            quality=networks.quality,
            absent=networks.absent(),
            references=references,
        )

    def _measure(
        self,
        sample: EvaluationSample,
        missing: Sequence[Method],
        row: PairRow,
        store: ResultStore,
        networks: MetricNetworks,
        analyzer: FaceAnalyzer,
        count: _Count,
    ) -> None:
        """Measure methods on a sample, store the results, and write a video of all methods side by side."""
        pair = sample.pair
        truth = self._truth(sample)
        for method in missing:
            done = count.done
            try:
                result = measure(method, sample, networks, analyzer, truth=truth, progress=count.advance)
                store.save(method, pair, sample.size, result, sample.fps)
                row.results[method.name] = result
            except (FaceError, MediaError, DataError, WeightsError) as error:
                row.failed[method.name] = error.message
            count.skip(pair.frames - (count.done - done))
        ordered = {method.name: method for method in [TrueCrops(), *self.methods]}
        made = [self._small(store, ordered[name], row, pair) for name in ordered if name in row.results]
        source = [resize(sample.source, min(sample.size, THUMBNAIL))] * len(sample.frames)
        write_row(self.out / "videos" / pair.protocol / f"{pair.key}.mp4", [source, *made], sample.fps)

    def _small(self, store: ResultStore, method: Method, row: PairRow, pair: Pair) -> list[UInt8]:
        result: PairResult = row.results[method.name]
        pictures = result.pictures or store.pictures(method, pair)
        small = [resize(picture, min(picture.shape[0], THUMBNAIL)) for picture in pictures]
        result.pictures.clear()  # limits the memory of a long evaluation
        return small

    def _truth(self, sample: EvaluationSample) -> list[UInt8] | None:
        if sample.pair.protocol == "self":
            return [true.square for true in sample.frames]
        if sample.pair.protocol == "student" and self.teacher is not None:
            return [resize(picture, sample.size) for picture in self.teacher.perform(sample)]
        return None

    def _references(self, networks: MetricNetworks) -> dict[str, Reference]:
        """The reference of each protocol, by size. `self` may have none: no table shows its Frechet distance."""
        others = {reference.network for reference in self.references} - {networks.frechet}
        if others:
            raise DataError(
                f"The reference is of {', '.join(sorted(others))}, and this machine measures {networks.frechet}.",
                fix="Make it anew with `megaportraits reference`, on this machine.",
            )
        by_size = {reference.size: reference for reference in self.references}
        found: dict[str, Reference] = {}
        for protocol in dict.fromkeys(pair.protocol for pair in self.pairs):
            size = HR_SIZE if protocol == "hr" else self.size
            if size in by_size:
                found[protocol] = by_size[size]
            elif by_size and protocol != "self":
                raise DataError(
                    f"Expected a reference of {size} px for the protocol {protocol!r}, got "
                    f"{', '.join(map(str, sorted(by_size)))} px.",
                    fix=f"Add one: megaportraits reference --images FOLDER --size {size} -o reference-{size}.npz",
                )
        return found

    def _check(self) -> None:
        names = [method.name for method in self.methods]
        if TRUE in names or len(set(names)) < len(names):
            raise DataError(
                f"Expected different names of methods, none of them {TRUE!r}, got {', '.join(names)}.",
                fix="Give names as NAME=...",
            )
        if self.teacher is None and any(pair.protocol == "student" for pair in self.pairs):
            raise DataError(
                "The protocol `student` compares with a teacher, and none is given.", fix="Add --teacher nano."
            )


class _Count:
    """Counts frames done and expected, and reports them."""

    def __init__(self, expected: int, tell: OnProgress) -> None:
        self.done, self._expected, self._tell = 0, expected, tell

    def advance(self) -> None:
        """Count one more frame as done."""
        self.done += 1
        self._tell(self.done, self._expected)

    def skip(self, frames: int) -> None:
        """Remove frames that need no work from the expected ones."""
        self._expected -= frames
        self._tell(self.done, self._expected)


def _note(sample: EvaluationSample, networks: MetricNetworks) -> SampleNote:
    around = boxes_of(sample.face.landmarks, sample.photo.shape[1])
    return SampleNote(
        frames=len(sample.frames),
        lost=sample.lost,
        fps=sample.fps,
        curves=signals_of([true.face for true in sample.frames]),
        source=resize(sample.source, min(sample.size, THUMBNAIL)),
        source_features=networks.features([sample.source]),
        boxes=np.stack([boxes_of(true.face_in_square.landmarks, sample.size) for true in sample.frames]),
        closeups=(closeup(sample.photo, around[0], "eyes"), closeup(sample.photo, around[1], "mouth")),
    )
