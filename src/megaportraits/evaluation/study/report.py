"""The result of a study: UMTN and UAPP of every method in per cent, with bootstrap intervals (4.3, Table 1)."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.evaluation.metrics.statistics import LEVEL, RESAMPLES
from megaportraits.evaluation.study.plan import KINDS, Kind, Study, Triplet
from megaportraits.evaluation.study.votes import Vote
from megaportraits.media import check_outputs
from megaportraits.media.staging import staged_output

NAMES: dict[Kind, str] = {"motion": "UMTN", "appearance": "UAPP"}
GOLD_PASS = 0.75
"""Smallest fraction of gold questions that a voter must answer correctly to be counted."""


@dataclass(frozen=True)
class VoteShare:
    """Per cent with the ends of a 95 % interval. All are NaN without votes; with one vote only the ends are NaN."""

    percent: float
    low: float
    high: float
    votes: int


@dataclass(frozen=True)
class StudyReport:
    """The result of a study.

    Attributes:
        methods: names of the methods, in the study's order.
        shares: for each kind and method, its percentage of all votes (the paper's number: the sum is 100).
        wins: for each kind and method, the percentage of its own comparisons that it won; 50 is as good as the others.
        duels: for each kind, the number of votes by (winner, loser).
        voters: number of voters who answered any question.
        failed: number of voters who are left out because they failed gold questions.
        unchecked: number of voters who answered no gold question; they are counted.
        broken: number of answers that a question could not be played.
        sharing: number of voters whose network address another voter has used before.
        median_seconds: median time per answer.
    """

    methods: tuple[str, ...]
    shares: Mapping[Kind, Mapping[str, VoteShare]]
    wins: Mapping[Kind, Mapping[str, VoteShare]]
    duels: Mapping[Kind, Mapping[tuple[str, str], int]]
    voters: int
    failed: int
    unchecked: int
    broken: int
    sharing: int
    median_seconds: float

    def to_json(self) -> str:
        """The report as JSON; values that are not finite become null."""

        def table(of: Mapping[Kind, Mapping[str, VoteShare]]) -> dict[str, Any]:
            return {NAMES[kind]: {m: _plain(share) for m, share in row.items()} for kind, row in of.items()}

        content = {
            "format": 1,
            "methods": list(self.methods),
            "percent_of_votes": table(self.shares),
            "percent_of_comparisons_won": table(self.wins),
            "duels": {
                NAMES[kind]: [{"winner": a, "loser": b, "votes": n} for (a, b), n in sorted(row.items())]
                for kind, row in self.duels.items()
            },
            "voters": {
                "answered": self.voters,
                "left_out_for_gold": self.failed,
                "without_gold": self.unchecked,
                "from_a_shared_address": self.sharing,
            },
            "not_playable": self.broken,
            "median_seconds": None if math.isnan(self.median_seconds) else round(self.median_seconds, 2),
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """The report as Markdown: the paper's table, and counts of voters and votes."""
        head = [f"{NAMES[kind]} ↑" for kind in KINDS] + [f"won, {kind}" for kind in KINDS]
        lines = ["# User study", "", _row("per cent (95 %)", *head), _row("---", *["---:"] * len(head))]
        for method in self.methods:
            cells = [_cell(of[kind][method]) for of in (self.shares, self.wins) for kind in KINDS]
            lines.append(_row(method, *cells))
        counts = ", ".join(f"{sum(self.duels[kind].values())} about {kind}" for kind in KINDS)
        lines += [
            "",
            f"- {counts}; {self.voters - self.failed} voters count.",
            f"- {self.failed} of {self.voters} voters are left out: they failed more than a quarter of their gold "
            f"questions. {self.unchecked} met none and count.",
            f"- {self.broken} questions could not be played; {self.sharing} voters share an address with another.",
            f"- {'-' if math.isnan(self.median_seconds) else f'{self.median_seconds:.1f}'} s per answer (median).",
            "",
            "UMTN (motion) and UAPP (appearance): share of all votes, as the paper counts; they add up to 100. `won`: "
            "share of the comparisons that the method took part in. Intervals resample voters and pairs at once.",
        ]
        return "\n".join(lines) + "\n"

    def write(self, out: Path, *, overwrite: bool = False) -> list[Path]:
        """Write `study-report.json` and `study-report.md` into a folder.

        Raises:
            MediaError: a file exists and `overwrite` is false, or the folder cannot be written.
        """
        paths = check_outputs(out, ("study-report.json", "study-report.md"), overwrite=overwrite)
        for path, text in zip(paths, (self.to_json(), self.to_markdown()), strict=True):
            with staged_output(path, overwrite=overwrite) as part:
                part.write_text(text, encoding="utf-8")
        return paths


def report_study(study: Study, votes: Sequence[Vote], *, sharing: int = 0, seed: int = 0) -> StudyReport:
    """Make a report from votes; equal votes give equal reports.

    Args:
        study: the study.
        votes: all answers.
        sharing: number of voters who share an address, for the report.
        seed: seed of the bootstrap.
    """
    questions = study.by_id()
    known = [v for v in votes if v.question in questions]
    right: dict[int, int] = defaultdict(int)
    seen: dict[int, int] = defaultdict(int)
    for vote in known:
        gold = questions[vote.question].triplet.gold
        if gold is not None and vote.choice != "broken":
            seen[vote.voter] += 1
            right[vote.voter] += vote.choice == gold
    voters = {v.voter for v in known}
    failed = {voter for voter in voters if right[voter] < GOLD_PASS * seen[voter]}
    counted = [
        v
        for v in known
        if v.voter not in failed and v.choice != "broken" and questions[v.question].triplet.gold is None
    ]
    shares: dict[Kind, dict[str, VoteShare]] = {}
    wins: dict[Kind, dict[str, VoteShare]] = {}
    duels: dict[Kind, dict[tuple[str, str], int]] = {}
    for kind in KINDS:
        mine = [v for v in counted if questions[v.question].triplet.kind == kind]
        picks = [_winner_loser(questions[v.question].triplet, v) for v in mine]
        duels[kind] = dict(sorted(Counter(picks).items()))
        # Columns: for each method the votes for it, then its comparisons; the last column counts all votes.
        columns = [[[m == winner, m in (winner, loser)] for m in study.methods] for winner, loser in picks]
        table = np.array(columns, np.float64).reshape(len(mine), 2 * len(study.methods))
        table = np.concatenate([table, np.ones((len(mine), 1))], 1)
        drawn = _resampled([v.voter for v in mine], [questions[v.question].triplet.pair for v in mine], table, seed)
        total = table.sum(0)
        shares[kind] = {m: _share(total, drawn, 2 * i, -1) for i, m in enumerate(study.methods)}
        wins[kind] = {m: _share(total, drawn, 2 * i, 2 * i + 1) for i, m in enumerate(study.methods)}
    return StudyReport(
        study.methods,
        shares,
        wins,
        duels,
        voters=len(voters),
        failed=len(failed),
        unchecked=sum(not seen[voter] for voter in voters),
        broken=sum(v.choice == "broken" for v in known),
        sharing=sharing,
        median_seconds=float(np.median([v.seconds for v in counted])) if counted else math.nan,
    )


def _winner_loser(triplet: Triplet, vote: Vote) -> tuple[str, str]:
    return (triplet.left, triplet.right) if vote.choice == "left" else (triplet.right, triplet.left)


def _resampled(
    voters: Sequence[int], pairs: Sequence[str], table: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.float64]:
    """(RESAMPLES, columns): sums of the columns when voters and pairs are resampled independently of each other.

    Votes of one voter are not independent, and neither are votes on one pair. A vote's weight is the product of the
    counts of its voter and its pair (the pigeonhole bootstrap: Owen, 2007, Annals of Applied Statistics).
    """
    rng = np.random.default_rng(seed)
    groups = [np.unique(np.asarray(group), return_inverse=True)[1] for group in (voters, pairs)]
    sums = np.zeros((RESAMPLES, table.shape[1]))
    for draw in range(RESAMPLES if len(table) else 0):
        weights = np.ones(len(table))
        for index in groups:
            count = int(np.max(index)) + 1
            weights *= np.bincount(rng.integers(count, size=count), minlength=count)[index]
        sums[draw] = weights @ table
    return sums


def _share(total: npt.NDArray[np.float64], drawn: npt.NDArray[np.float64], part: int, of: int) -> VoteShare:
    """Column `part` in per cent of column `of`, with its interval."""
    count = int(total[of])
    if not count:
        return VoteShare(math.nan, math.nan, math.nan, 0)
    percent = 100 * float(total[part] / total[of])
    if count < 2:
        return VoteShare(percent, math.nan, math.nan, count)
    some = drawn[drawn[:, of] > 0]
    low, high = np.quantile(some[:, part] / some[:, of], [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) * 100
    return VoteShare(percent, float(low), float(high), count)


def _plain(share: VoteShare) -> dict[str, float | int | None]:
    def number(x: float) -> float | None:
        return None if math.isnan(x) else round(x, 2)

    return {
        "percent": number(share.percent),
        "low": number(share.low),
        "high": number(share.high),
        "votes": share.votes,
    }


def _cell(share: VoteShare) -> str:
    if math.isnan(share.percent):
        return "-"
    interval = "" if math.isnan(share.low) else f" ({share.low:.1f}-{share.high:.1f})"
    return f"{share.percent:.1f}{interval}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
