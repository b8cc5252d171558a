"""Plan people and motions of every clip: a pure function of the settings, so that any shard can be made separately."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megaportraits.config.options import convert_options
from megaportraits.data.clips import CLIPS_PER_SHARD
from megaportraits.errors import ConfigError, DataError
from megaportraits.media import PICTURE_SUFFIXES

SPLITS = ("train", "val")
VALIDATION_PERCENT = 3
_SPLIT_SEED = {"train": 1, "val": 2}


@dataclass(frozen=True)
class SynthSettings:
    """Settings of `megaportraits synth`.

    Attributes:
        portraits: folder of photographs, one person each, searched recursively; None for procedural heads only.
        head: packed morphable head or FaceXModel folder.
        clips: clips to make for training; validation gets 3 % on top.
        seed: random seed.
        size: pixels along each side of a frame.
        frames: per clip.
        group: people with the same motions.
        lifted_share: share of clips from photographs; the rest are procedural heads.
        grey_share: share of black and white photographs among the lifted clips.
        min_interocular: pixels between the irises below which a photograph is too small.
        coords: whether frames carry the surface map.
        measure: whether frames have blendshapes estimated by the landmark network.
        photographs: whether frame 0 of every lifted clip is the photograph itself, which is then the target of every
            pair of the clip (`data.pairs`); such clips share no motion group.
    """

    portraits: Path | None
    head: Path
    clips: int = 3000
    seed: int = 0
    size: int = 128
    frames: int = 8
    group: int = 4
    lifted_share: float = 0.8
    grey_share: float = 0.25
    min_interocular: float = 25.0
    coords: bool = True
    measure: bool = False
    photographs: bool = False

    def __post_init__(self) -> None:
        convert_options(self)
        wrong = []
        if not 1 <= self.group <= CLIPS_PER_SHARD or CLIPS_PER_SHARD % self.group:
            wrong.append(f"group must divide {CLIPS_PER_SHARD}, got {self.group}")
        if self.portraits is None and self.lifted_share:
            wrong.append("portraits are needed when lifted_share is not 0")
        if self.photographs and (self.frames < 2 or self.lifted_share < 1):
            wrong.append(
                "photographs need lifted_share 1 and at least 2 frames,"
                f" got lifted_share {self.lifted_share:g} and {self.frames} frames"
            )
        for name, low, high in (
            ("clips", 1, 100_000_000),
            ("frames", 1, 1000),
            ("size", 16, 4096),
            ("seed", 0, 2**32 - 1),
            ("lifted_share", 0, 1),
            ("grey_share", 0, 1),
        ):
            if not low <= getattr(self, name) <= high:
                wrong.append(f"{name} must lie in [{low}, {high}], got {getattr(self, name)}")
        if wrong:
            raise ConfigError("; ".join(wrong) + ".", fix="Change the options named above.")

    def identity(self) -> dict[str, Any]:
        """The settings that all runs in one folder share: all but paths of inputs and number of clips."""
        entries = asdict(self)
        for name in ("portraits", "head", "clips"):
            del entries[name]
        for name in ("measure", "photographs"):  # folders of versions without this option can be resumed
            if not entries[name]:
                del entries[name]
        return entries

    def clip_count(self, split: str) -> int:
        """Clips of a split, whole groups."""
        wanted = self.clips if split == "train" else self.clips * VALIDATION_PERCENT / 100
        return int(-(-wanted // self.group)) * self.group

    def shard_count(self, split: str) -> int:
        """Shards of a split."""
        return -(-self.clip_count(split) // CLIPS_PER_SHARD)


@dataclass(frozen=True)
class GroupPlan:
    """One motion group: its name, kind, random stream and, for lifted groups, the first choice of photographs."""

    key: str
    lifted: bool
    seed: tuple[int, ...]
    people: tuple[int, ...]  # cg numbers, or indices into the pools below
    grey: tuple[bool, ...]


@dataclass(frozen=True)
class Pool:
    """The photographs of one split, by colour kind."""

    colour: tuple[str, ...]
    grey: tuple[str, ...]


def is_validation(identity: str) -> bool:
    """Whether an identity belongs to the fixed 3 % for validation; depends only on its name."""
    digest = hashlib.sha256(identity.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < VALIDATION_PERCENT


def find_portraits(folder: Path) -> list[str]:
    """All pictures below a folder, as sorted relative paths; DataError if there are none."""
    found = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES]
    if not found:
        raise DataError(
            f"No portraits ({', '.join(PICTURE_SUFFIXES)}) in {folder}.",
            fix="Give a folder of photographs with --portraits, or make procedural heads only: --lifted-share 0.",
        )
    return sorted(found)


def identity_of(portrait: str) -> str:
    """The name of the person in a portrait: its relative path without the suffix."""
    return portrait.rpartition(".")[0]


def group_plan(settings: SynthSettings, split: str, number: int, pool: Pool) -> GroupPlan:
    """Plan of group `number` of a split.

    Lifted and CG groups are interleaved evenly; photographs are dealt from shuffled decks, so that all are used about
    equally often.
    """
    share = settings.lifted_share
    lifted_before = int(np.floor(number * share + 1e-9))
    lifted = int(np.floor((number + 1) * share + 1e-9)) > lifted_before
    seed = (settings.seed, _SPLIT_SEED[split], number)
    key = f"s{settings.seed}-{split}-{number:06d}"  # unique among sets of other seeds, which can be combined
    if not lifted:
        first = (number - lifted_before) * settings.group
        numbers = cg_numbers(settings.seed, split, first, settings.group)
        return GroupPlan(key, False, seed, numbers, (False,) * settings.group)
    first = lifted_before * settings.group
    greys = [_is_grey_turn(first + k, settings, pool) for k in range(settings.group)]
    people = []
    for k, grey in enumerate(greys):
        turn = sum(_is_grey_turn(i, settings, pool) == grey for i in range(first + k))
        deck = pool.grey if grey else pool.colour
        people.append(_deal(settings.seed, _SPLIT_SEED[split], turn, len(deck)))
    return GroupPlan(key, True, seed, tuple(people), tuple(greys))


def cg_numbers(seed: int, split: str, first: int, count: int) -> tuple[int, ...]:
    """Numbers of procedural people in a split, from the `first`-th on."""
    wanted, number, passed = split == "val", seed * 100_000, 0
    numbers: list[int] = []
    while len(numbers) < count:
        if is_validation(f"cg-{number:06d}") == wanted:
            if passed >= first:
                numbers.append(number)
            passed += 1
        number += 1
    return tuple(numbers)


def _is_grey_turn(turn: int, settings: SynthSettings, pool: Pool) -> bool:
    if not pool.grey or not pool.colour:
        return not pool.colour
    share = settings.grey_share
    return int(np.floor((turn + 1) * share + 1e-9)) > int(np.floor(turn * share + 1e-9))


def _deal(seed: int, stream: int, turn: int, cards: int) -> int:
    round_number, place = divmod(turn, cards)
    return int(np.random.default_rng([seed, stream, 0xDEA1, round_number]).permutation(cards)[place])


def group_numbers(settings: SynthSettings, split: str, shard: int) -> Sequence[int]:
    """The motion groups of one shard."""
    per_shard = CLIPS_PER_SHARD // settings.group
    last = settings.clip_count(split) // settings.group
    return range(shard * per_shard, min((shard + 1) * per_shard, last))
