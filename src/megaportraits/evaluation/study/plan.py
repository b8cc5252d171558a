"""The questions of a study: random triplets of a reference and two methods' results in random order (4.3).

For UMTN the reference is the driver, and voters compare motion. For UAPP it is the source, and voters compare
appearance. A gold question has a known answer: one side is the reference itself, the other belongs to another pair.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from megaportraits.config.options import convert_options
from megaportraits.errors import DataError
from megaportraits.evaluation.pairs import Pair
from megaportraits.media.staging import staged_output

Kind = Literal["motion", "appearance"]
Side = Literal["left", "right"]
Role = Literal["reference", "left", "right"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIDES: tuple[Side, ...] = get_args(Side)
ROLES: tuple[Role, ...] = get_args(Role)
"""The roles of a question's files."""
FORMAT = 1
FILE = "study.json"
MEDIA_SUFFIXES = (".mp4", ".jpg")
_LARGEST_FILE = 200_000_000
_Count = Annotated[int, Field(ge=0, le=10**9)]
_Some = Annotated[int, Field(ge=1, le=10**9)]


@dataclass(frozen=True)
class StudySettings:
    """Settings of a study.

    Attributes:
        questions: largest number of questions of each kind; there are fewer if pairs and methods do not give enough.
        gold: number of gold questions of each kind.
        per_voter: number of questions for each voter, including gold questions.
        gold_per_voter: number of gold questions for each voter.
        size: longest side of images and videos, pixels.
        seconds: longest duration of a video.
        seed: seed of all random draws.
    """

    questions: _Some = 60
    gold: _Count = 4
    per_voter: _Some = 30
    gold_per_voter: _Count = 4
    size: _Some = 480
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 6.0
    seed: int = 0

    def __post_init__(self) -> None:
        convert_options(self)


@dataclass(frozen=True)
class Triplet:
    """A question before it has files.

    Attributes:
        kind: whether voters compare motion or appearance.
        pair: name of the pair whose driver or source is the reference.
        left: method on the left; in a gold question, name of the pair whose driver or source is shown there.
        right: the same for the right side.
        gold: the known answer of a gold question, else None.
    """

    kind: Kind
    pair: str
    left: str
    right: str
    gold: Side | None = None


@dataclass(frozen=True)
class Question:
    """A question: the triplet, and for each of `ROLES` the name of a file in the study's `media` folder."""

    id: str
    triplet: Triplet
    reference: str
    left: str
    right: str


@dataclass(frozen=True)
class Study:
    """A study without its votes; the content of `study.json`."""

    methods: tuple[str, ...]
    settings: StudySettings
    questions: tuple[Question, ...]

    def by_id(self) -> dict[str, Question]:
        """Questions by their id."""
        return {question.id: question for question in self.questions}

    def write(self, folder: Path) -> Path:
        """Write `study.json`.

        Raises:
            MediaError: the file exists; votes belong to it, so it is not replaced.
        """
        content = {"format": FORMAT, **asdict(self)}
        with staged_output(folder / FILE, overwrite=False) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return folder / FILE

    @staticmethod
    def read(folder: Path) -> Study:
        """Read the study of a folder.

        Raises:
            DataError: there is no study, or its `study.json` is damaged.
        """
        path = folder / FILE
        try:
            if not path.is_file():
                raise DataError(f"{folder} holds no study.", fix="Make one with `megaportraits study make`.")
            if path.stat().st_size > _LARGEST_FILE:
                raise _broken(path, f"it has {path.stat().st_size} bytes")
            content = _Content.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror or error}", fix="Check its permissions."
            ) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise _broken(path, f"{where + ': ' if where else ''}{first['msg']}") from error
        names = [name for q in content.questions for name in (q.reference, q.left, q.right)]
        strange = [name for name in names if Path(name).name != name or Path(name).suffix not in MEDIA_SUFFIXES]
        if strange:
            raise _broken(path, f"expected names of .mp4 and .jpg files in its media folder, got {strange[0]!r}")
        if len({q.id for q in content.questions}) < len(content.questions):
            raise _broken(path, "two questions have the same id")
        methods = set(content.methods)
        for triplet in (q.triplet for q in content.questions):
            if triplet.gold is None and not {triplet.left, triplet.right} <= methods:
                raise _broken(path, f"a question compares {triplet.left!r} and {triplet.right!r}, not both are methods")
        return Study(content.methods, content.settings, content.questions)


class _Content(BaseModel, strict=True, extra="forbid"):
    """The schema of `study.json`."""

    format: Literal[1]
    methods: tuple[str, ...]
    settings: StudySettings
    questions: Annotated[tuple[Question, ...], Field(min_length=1)]


def _broken(path: Path, what: str) -> DataError:
    return DataError(
        f"{path} is no study of this version: {what}.",
        fix="Take it from a backup, or make a new study with `megaportraits study make`.",
    )


def question_id(triplet: Triplet, seed: int) -> str:
    """An id that reveals neither the methods nor whether it is a gold question."""
    return hashlib.sha256(json.dumps([seed, asdict(triplet)]).encode()).hexdigest()[:16]


def draw_triplets(
    pairs: Sequence[str], results: Mapping[str, Set[str]], settings: StudySettings, rng: np.random.Generator
) -> list[Triplet]:
    """Draw different triplets of both kinds; every two methods are compared equally often, as far as results allow.

    Args:
        pairs: names of the pairs.
        results: for each method, the names of the pairs with results.
        settings: `questions` is the largest number of triplets of each kind.
        rng: generator of all draws.
    """
    found: list[Triplet] = []
    for kind in KINDS:
        decks = []
        for one, other in itertools.combinations(results, 2):
            both = [name for name in pairs if name in results[one] and name in results[other]]
            decks.append([(one, other, both[i]) for i in rng.permutation(len(both))])
        order = rng.permutation(len(decks))  # which methods get one more comparison if the number is not divisible
        rounds = itertools.zip_longest(*(decks[i] for i in order))
        cards = [card for cards in rounds for card in cards if card is not None][: settings.questions]
        for one, other, name in cards:
            left, right = (one, other) if rng.random() < 0.5 else (other, one)
            found.append(Triplet(kind, name, left, right))
    return found


def draw_gold(pairs: Sequence[Pair], settings: StudySettings, rng: np.random.Generator) -> list[Triplet]:
    """Draw gold questions: one side shows the reference itself, the other another pair's driver or source.

    Raises:
        DataError: all pairs have the same driver or the same source.
    """
    found: list[Triplet] = []
    for kind in KINDS if settings.gold else ():
        shown = {pair.name: str(pair.driver if kind == "motion" else pair.source) for pair in pairs}
        cards = [(a, b) for a, b in itertools.permutations(shown, 2) if shown[a] != shown[b]]
        if not cards:
            raise DataError(
                f"a gold question about {kind} needs two different {'drivers' if kind == 'motion' else 'sources'}",
                fix="Add pairs, or make the study without gold questions: --gold 0.",
            )
        for i in rng.permutation(len(cards))[: settings.gold]:
            true, other = cards[i]
            side = SIDES[int(rng.integers(2))]
            left, right = (true, other) if side == "left" else (other, true)
            found.append(Triplet(kind, true, left, right, side))
    return found


def draw_session(study: Study, votes: Mapping[str, int], rng: np.random.Generator) -> list[str]:
    """Draw the questions of one voter, in order: those with the fewest votes, one kind after the other.

    Gold questions are distributed among them.

    Args:
        study: the study.
        votes: number of votes for each question; 0 for missing questions.
        rng: the voter's generator.
    """
    s = study.settings
    gold = [q for q in study.questions if q.triplet.gold is not None]
    asked = [q for q in study.questions if q.triplet.gold is None]
    drawn = [gold[i] for i in rng.permutation(len(gold))]
    kinds = ([q for q in drawn if q.triplet.kind == kind] for kind in KINDS)
    alternating = [q for both in itertools.zip_longest(*kinds) for q in both if q is not None]
    checks = alternating[: min(s.gold_per_voter, s.per_voter)]
    shuffled = [asked[i] for i in rng.permutation(len(asked))]
    shuffled.sort(key=lambda q: votes.get(q.id, 0))  # stable, so that equal counts stay in random order
    chosen = shuffled[: s.per_voter - len(checks)]
    order: list[str] = []
    for kind in [KINDS[i] for i in rng.permutation(len(KINDS))]:
        block = [q.id for q in chosen if q.triplet.kind == kind]
        own = [q.id for q in checks if q.triplet.kind == kind]
        for number, question in enumerate(own):
            # One in each equal part of the block, to detect inattention early and late.
            low, high = (len(block) * (number + k) // max(len(own), 1) for k in (0, 1))
            block.insert(int(rng.integers(low, high + 1)), question)
        order += block
    return order
