"""The work of `megaportraits synth`: shards of synthetic clips, in parallel, resumable, deterministic.

The output folder:

    synth.json               the settings; a run with other settings is refused
    train/, val/             shards and their index (`data.index`); a shard depends only on the settings and its number
    counts/SPLIT-NNNNNN.json clips by kind, and reasons for skipped photographs
    report.json              the sum of the counts
    contact_sheet.png        overview of the result
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ShardWriter, shard_name
from megaportraits.data.index import refresh
from megaportraits.engines import run_local
from megaportraits.errors import DataError, FaceError
from megaportraits.media.folders import RESUMES, write_json
from megaportraits.media.staging import full_disk_errors
from megaportraits.reading import access, is_file, read_record
from megaportraits.synth import folder, plan
from megaportraits.synth.appearance import is_grey
from megaportraits.synth.cg import CgCast
from megaportraits.synth.contact_sheet import write_contact_sheet
from megaportraits.synth.facexmodel import WHERE
from megaportraits.synth.head import MorphableHead
from megaportraits.synth.lift import Lifter
from megaportraits.synth.lifted import LiftedHead
from megaportraits.synth.measure import Measurement, Scorer
from megaportraits.synth.plan import GroupPlan, Pool, SynthSettings
from megaportraits.synth.portraits import MattedPortrait, PortraitReader
from megaportraits.synth.sample import CG_RANGE, LIFTED_RANGE, sample_motions
from megaportraits.synth.stage import HeadMotion, SynthFrame

Reader = Callable[[Path], MattedPortrait]
Measure = Callable[[SynthFrame], Measurement | None]
"""See `measure.Scorer`."""
_REPLACEMENTS = 50  # photographs tried instead of a failing one


class Person(Protocol):
    """A head that can be rendered: `lifted.LiftedHead` or `cg.CgHead`."""

    @property
    def identity(self) -> str: ...

    def render(self, motion: HeadMotion, size: int, *, supersample: int = 2, coords: bool = True) -> SynthFrame: ...


@dataclass
class SynthProgress:
    """Progress, reported after every shard."""

    done: int
    total: int
    counts: Counter[str]


class ShardMaker:
    """Makes single shards; every worker process has one."""

    def __init__(self, settings: SynthSettings, pools: dict[str, Pool], out: Path, reader: Reader) -> None:
        cv2.setNumThreads(1)
        self.settings, self.pools, self.out = settings, pools, out
        self.head = MorphableHead.load(settings.head)
        self._lifter = Lifter(self.head) if settings.lifted_share > 0 else None
        self._cast = CgCast(self.head)
        self._reader = reader
        self.scorer: Measure | None = Scorer() if settings.measure else None
        # A failing photograph is not read twice. Lifted heads are large, so only recent ones are cached.
        self._failures: dict[str, str] = {}
        self._lifted = lru_cache(maxsize=8)(self._lift)

    def make(self, split: str, shard: int) -> Counter[str]:
        """Make one shard and its counts; returns the counts."""
        counts: Counter[str] = Counter()
        # An existing file with this name is the short last shard of a smaller run.
        (self.out / split / shard_name(shard)).unlink(missing_ok=True)
        with ShardWriter(self.out / split, shard) as writer:
            for number in plan.group_numbers(self.settings, split, shard):
                group = plan.group_plan(self.settings, split, number, self.pools[split])
                for record, frames in self._clips(group, split, counts):
                    writer.write(record, frames)
                    counts["clips"] += 1
                    counts[f"clips {record.kind}"] += 1
                    counts["frames"] += len(frames)
            write_json(folder.note_of(self.out, split, shard), dict(sorted(counts.items())), indent=1)
        return counts

    def _clips(
        self, group: GroupPlan, split: str, counts: Counter[str]
    ) -> Iterator[tuple[ClipRecord, list[ClipFrame]]]:
        rng = np.random.default_rng(group.seed)
        limits = LIFTED_RANGE if group.lifted else CG_RANGE
        motions = sample_motions(rng, self.head, self.settings.frames, limits)
        labels = tuple(_labels(self.head, motion) for motion in motions)
        taken: set[str] = set()
        for member, (number, grey) in enumerate(zip(group.people, group.grey, strict=True)):
            if group.lifted:
                person: Person = self._photograph(rng, split, number, grey, taken, counts)
                taken.add(person.identity)
            else:
                person = self._cast.person(number)
            renderings = [person.render(m, self.settings.size, coords=self.settings.coords) for m in motions]
            seen, kind = labels, "lifted" if group.lifted else "cg"
            if self.settings.photographs and isinstance(person, LiftedHead):
                renderings[0] = person.photograph(self.settings.size, coords=self.settings.coords)
                # Gaze is not fitted.
                seen, kind = (replace(_labels(self.head, person.rest), gaze=None), *labels[1:]), "photograph"
            if self.scorer is not None:
                seen = tuple(_measured(x, self.scorer(r)) for x, r in zip(seen, renderings, strict=True))
            record = ClipRecord(
                key=f"{group.key}-{member}",
                kind=kind,
                identity=person.identity,
                motion_group=None if kind == "photograph" else group.key,
                size=self.settings.size,
                fps=0.0,
                expression_names=self.head.expression_names,
                frames=seen,
            )
            pairs = zip(renderings, seen, strict=True)
            yield record, [ClipFrame(r.image, r.matte, label, r.coords, r.valid) for r, label in pairs]

    def _photograph(
        self,
        rng: np.random.Generator,
        split: str,
        number: int,
        grey: bool,
        taken: set[str],
        counts: Counter[str],
    ) -> Person:
        """The planned photograph, or another of its colour kind if it cannot be lifted or is already in the group."""
        deck = self.pools[split].grey if grey else self.pools[split].colour
        order = [number, *rng.integers(len(deck), size=_REPLACEMENTS)]
        for choice in order:
            portrait = deck[choice]
            if plan.identity_of(portrait) in taken and len(deck) > self.settings.group:
                continue
            if portrait not in self._failures:
                try:
                    return self._lifted(portrait)
                except FaceError as error:
                    self._failures[portrait] = error.message.partition(":")[0]
            counts[f"skipped, {self._failures[portrait]}"] += 1
        raise DataError(
            f"{len(order)} photographs in a row could not be lifted, for example {portrait}: "
            f"{self._failures.get(portrait, 'already used')}.",
            fix="Give near-frontal portraits with at least 25 pixels between the eyes.",
        )

    def _lift(self, portrait: str) -> Person:
        if self._lifter is None or self.settings.portraits is None:
            raise DataError("Photographs were planned although lifted_share is 0.")
        found = self._reader(self.settings.portraits / portrait)
        distance = float(np.linalg.norm(found.landmarks[468, :2] - found.landmarks[473, :2]))
        if distance < self.settings.min_interocular:
            raise FaceError(f"too small: {distance:.0f} pixels between the irises")
        return self._lifter.lift(found.image, found.landmarks, found.matte, plan.identity_of(portrait))


def generate(
    settings: SynthSettings,
    out: Path,
    *,
    workers: int = 1,
    on_progress: Callable[[SynthProgress], None] = lambda progress: None,
    reader: Callable[[], Reader] = PortraitReader,
) -> dict[str, int]:
    """Make all missing shards in `out`, then the report and the contact sheet.

    Args:
        settings: what to make.
        out: the folder to fill; it must be empty, or hold an unfinished or finished run of equal settings.
        workers: processes; 1 works in this process.
        on_progress: called after each shard.
        reader: creates, in each worker, the object that finds landmarks and matte of a photograph; must be picklable.

    Returns:
        The counts of `report.json`.

    Raises:
        DataError: the folder holds something else, the disk is too small, or the photographs are unusable.
    """
    with access(settings.head, DataError):
        there = settings.head.exists()
    if not there:
        raise DataError(f"No morphable head at {settings.head}.", fix=WHERE)
    if settings.portraits is not None:
        plan.find_portraits(settings.portraits)
    with full_disk_errors(out, DataError, fix=RESUMES), folder.claimed(settings, out):
        folder.check_space(settings, out)
        pools = sort_portraits(settings, out)
        todo = folder.missing_shards(settings, out)
        total = sum(settings.shard_count(split) for split in plan.SPLITS)
        progress = SynthProgress(total - len(todo), total, folder.sum_counts(settings, out))
        on_progress(progress)
        with closing(run_local(_ShardWork(settings, pools, out, reader), todo, workers, again=False)) as results:
            for counts in results:
                progress.done += 1
                progress.counts += counts
                on_progress(progress)
        for split in plan.SPLITS:
            refresh(out / split, workers=workers)
        report = dict(sorted(folder.sum_counts(settings, out).items()))
        write_json(out / "report.json", report, indent=1)
        write_contact_sheet(out / "train", out / "contact_sheet.png")
        return report


def sort_portraits(settings: SynthSettings, out: Path) -> dict[str, Pool]:
    """The photographs of each split by colour kind; cached in `out` because reading all takes seconds."""
    if settings.portraits is None or settings.lifted_share == 0:
        return {split: Pool((), ()) for split in plan.SPLITS}
    found = plan.find_portraits(settings.portraits)
    note = out / "portraits.json"
    try:
        greys: dict[str, bool] = read_record(note, DataError) if is_file(note, DataError) else {}
    except DataError:  # a damaged cache, which is computed again
        greys = {}
    if sorted(greys) != found:
        greys = {portrait: _looks_grey(settings.portraits / portrait) for portrait in found}
        write_json(note, greys, indent=1)
    pools = {}
    for split in plan.SPLITS:
        mine = [p for p in found if plan.is_validation(plan.identity_of(p)) == (split == "val")]
        pools[split] = Pool(tuple(p for p in mine if not greys[p]), tuple(p for p in mine if greys[p]))
        if not mine:
            # Too few photographs for 3 %: use known faces rather than no validation clips.
            pools[split] = pools["train"]
    return pools


def _measured(labels: FrameLabels, found: Measurement | None) -> FrameLabels:
    return labels if found is None else replace(labels, scores=found.blendshapes, landmarks=found.landmarks)


def _labels(head: MorphableHead, motion: HeadMotion) -> FrameLabels:
    blink = motion.expression[[head.index("eyeBlink_L"), head.index("eyeBlink_R")]]
    return FrameLabels(
        rotation=motion.pose.rotation,
        translation=motion.pose.translation,
        scale=motion.pose.scale,
        expression=motion.expression,
        gaze=motion.gaze,
        blink=np.clip(blink, 0, 1),
    )


def _looks_grey(path: Path) -> bool:
    image = cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_2)
    return image is None or is_grey(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


class _ShardWork:
    """`ShardMaker.make` for workers: cheap to pickle; the first shard creates the maker."""

    def __init__(
        self, settings: SynthSettings, pools: dict[str, Pool], out: Path, reader: Callable[[], Reader]
    ) -> None:
        self._settings, self._pools, self._out, self._reader = settings, pools, out, reader
        self._maker: ShardMaker | None = None

    def __call__(self, job: tuple[str, int]) -> Counter[str]:
        if self._maker is None:
            self._maker = ShardMaker(self._settings, self._pools, self._out, self._reader())
        return self._maker.make(*job)
