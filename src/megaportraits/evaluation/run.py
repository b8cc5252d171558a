"""An evaluation from pairs to a report: the work behind `megaportraits evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from megaportraits import __version__
from megaportraits.errors import DataError, FaceError, MediaError, WeightsError
from megaportraits.evaluation.closeups import boxes_of, closeup
from megaportraits.evaluation.judges import Judges
from megaportraits.evaluation.measure import THUMBNAIL, PairResult, measure
from megaportraits.evaluation.pairs import Pair
from megaportraits.evaluation.reference import Reference
from megaportraits.evaluation.report import Report, Row
from megaportraits.evaluation.scenes import Scene, read_scene
from megaportraits.evaluation.signals import signals_of
from megaportraits.evaluation.store import SceneNote, Store, write_row
from megaportraits.evaluation.systems import TRUE, System, TrueCrops, resized
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.matting import Matting
from megaportraits.media.images import UInt8

HR_SIZE = 1024
"""Side of head crops in the protocol `hr`."""
Progress = Callable[[int, int | None], None]


@dataclass
class Evaluation:
    """Systems, judged on pairs.

    Attributes:
        systems: what is measured, in the order of the tables; the true crops come by themselves.
        pairs: on what.
        out: folder of the report; results that lie there from an interrupted run are taken over.
        size: side of the head crops, pixels; 1024 in `hr` whatever this says.
        teacher: whose pictures are the truth in `student`.
        settings: what else the numbers depend on, for the report.
        make_analyzer: `FaceAnalyzer`.
        judges: the judging networks, where they are loaded already.
        references: sets of real pictures for the Frechet distance, one of each size that a protocol has; none: each
            protocol's own pictures.
    """

    systems: Sequence[System]
    pairs: Sequence[Pair]
    out: Path
    size: int
    teacher: System | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    make_analyzer: Callable[..., FaceAnalyzer] = FaceAnalyzer
    judges: Judges | None = None
    references: Sequence[Reference] = ()

    def run(self, progress: Progress = lambda done, expected: None) -> Report:
        """Measure what is not measured yet; a pair that cannot be used is named in the report.

        Args:
            progress: called with the frames done and the frames expected.

        Raises:
            DataError: two systems of one name, the protocol `student` without a teacher, or references of other
                sizes or networks.
        """
        self._check()
        judges, matting = self.judges or Judges(), Matting()
        references = self._references(judges)
        videos, outputs = self.make_analyzer(), self.make_analyzer(reject_animals=False)
        store = Store(self.out / "results", judges)
        systems: list[System] = [TrueCrops(), *self.systems]
        count = _Count(sum(pair.frames for pair in self.pairs) * len(systems), progress)
        rows: list[Row] = []
        for pair in self.pairs:
            size = HR_SIZE if pair.protocol == "hr" else self.size
            row = Row(pair, store.load_note(pair, size))
            missing = []
            for system in systems:
                known = store.load(system, pair, size)
                if known is None:
                    missing.append(system)
                else:
                    row.results[system.name] = known
                    count.skip(pair.frames)
            rows.append(row)
            if not missing and row.note is not None:
                continue
            try:
                scene = read_scene(pair, videos, matting, size)
            except (FaceError, MediaError, DataError) as error:
                row.failed[""] = error.message
                count.skip(pair.frames * len(missing))
                continue
            row.note = _note(scene, judges)
            store.save_note(pair, size, row.note)
            self._measure(scene, missing, row, store, judges, outputs, count)
        settings = {"version": __version__, "size": self.size, **self.settings}
        settings |= {f"real pictures of {name}": reference.describe() for name, reference in references.items()}
        described = {system.name: dict(system.settings) for system in systems}
        return Report(
            settings,
            described,
            rows,
            identity=judges.identity,
            perceptual=judges.perceptual,
            frechet=judges.frechet,
            quality=judges.quality,
            absent=judges.absent(),
            references=references,
        )

    def _measure(
        self,
        scene: Scene,
        missing: Sequence[System],
        row: Row,
        store: Store,
        judges: Judges,
        analyzer: FaceAnalyzer,
        count: _Count,
    ) -> None:
        """Measure systems on a scene, keep what came out, and lay all systems' videos side by side."""
        pair = scene.pair
        truth = self._truth(scene)
        for system in missing:
            done = count.done
            try:
                result = measure(system, scene, judges, analyzer, truth=truth, progress=count.advance)
                store.save(system, pair, scene.size, result, scene.fps)
                row.results[system.name] = result
            except (FaceError, MediaError, DataError, WeightsError) as error:
                row.failed[system.name] = error.message
            count.skip(pair.frames - (count.done - done))
        ordered = {system.name: system for system in [TrueCrops(), *self.systems]}
        made = [self._small(store, ordered[name], row, pair) for name in ordered if name in row.results]
        source = [resized(scene.source, min(scene.size, THUMBNAIL))] * len(scene.frames)
        write_row(self.out / "videos" / pair.protocol / f"{pair.key}.mp4", [source, *made], scene.fps)

    def _small(self, store: Store, system: System, row: Row, pair: Pair) -> list[UInt8]:
        result: PairResult = row.results[system.name]
        pictures = result.pictures or store.pictures(system, pair)
        small = [resized(picture, min(picture.shape[0], THUMBNAIL)) for picture in pictures]
        result.pictures.clear()  # a long evaluation must not keep them all
        return small

    def _truth(self, scene: Scene) -> list[UInt8] | None:
        if scene.pair.protocol == "self":
            return [true.square for true in scene.frames]
        if scene.pair.protocol == "student" and self.teacher is not None:
            return [resized(picture, scene.size) for picture in self.teacher.perform(scene)]
        return None

    def _references(self, judges: Judges) -> dict[str, Reference]:
        """The reference of each protocol, by its size; `self` has one if it is there, since no table shows it."""
        others = {reference.network for reference in self.references} - {judges.frechet}
        if others:
            raise DataError(
                f"The reference is of {', '.join(sorted(others))}, and this machine measures {judges.frechet}.",
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
        names = [system.name for system in self.systems]
        if TRUE in names or len(set(names)) < len(names):
            raise DataError(
                f"Expected different names of systems, none of them {TRUE!r}, got {', '.join(names)}.",
                fix="Give names as NAME=...",
            )
        if self.teacher is None and any(pair.protocol == "student" for pair in self.pairs):
            raise DataError(
                "The protocol `student` compares with a teacher, and none is given.", fix="Add --teacher nano."
            )


class _Count:
    """Frames done and expected."""

    def __init__(self, expected: int, tell: Progress) -> None:
        self.done, self._expected, self._tell = 0, expected, tell

    def advance(self) -> None:
        """One more frame."""
        self.done += 1
        self._tell(self.done, self._expected)

    def skip(self, frames: int) -> None:
        """Frames that were expected and need no work."""
        self._expected -= frames
        self._tell(self.done, self._expected)


def _note(scene: Scene, judges: Judges) -> SceneNote:
    around = boxes_of(scene.face.landmarks, scene.photo.shape[1])
    return SceneNote(
        frames=len(scene.frames),
        lost=scene.lost,
        fps=scene.fps,
        curves=signals_of([true.face for true in scene.frames]),
        source=resized(scene.source, min(scene.size, THUMBNAIL)),
        source_features=judges.features([scene.source]),
        boxes=np.stack([boxes_of(true.face_in_square.landmarks, scene.size) for true in scene.frames]),
        closeups=(closeup(scene.photo, around[0], "eyes"), closeup(scene.photo, around[1], "mouth")),
    )
