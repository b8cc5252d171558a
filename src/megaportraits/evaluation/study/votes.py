"""The votes of a study, in SQLite: who was asked what, in which order, and what was answered, once each.

A voter is a random token that the browser keeps. The order of questions is drawn once and stored, so that reloading
goes on where the voter was; an answer counts only for the question that is open, and only the first one.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from megaportraits.errors import DataError
from megaportraits.evaluation.study.plan import Study, draw_session

Choice = Literal["left", "right", "broken"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
"""Which side, or that it could not be played."""
FILE = "votes.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (salt TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS invites (code TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS voters (
    id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, invite TEXT UNIQUE REFERENCES invites (code),
    address TEXT NOT NULL, began REAL NOT NULL);
CREATE TABLE IF NOT EXISTS asked (
    voter INTEGER NOT NULL REFERENCES voters (id), place INTEGER NOT NULL, question TEXT NOT NULL,
    PRIMARY KEY (voter, place), UNIQUE (voter, question));
CREATE TABLE IF NOT EXISTS votes (
    voter INTEGER NOT NULL, question TEXT NOT NULL, choice TEXT NOT NULL, seconds REAL NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (voter, question), FOREIGN KEY (voter, question) REFERENCES asked (voter, question));
"""


@dataclass(frozen=True)
class Vote:
    """One answer."""

    voter: int
    question: str
    choice: Choice
    seconds: float


@dataclass(frozen=True)
class VoterState:
    """Where a voter is.

    Attributes:
        done: questions answered.
        total: questions in all.
        upcoming: ids of the open question and of those after it.
    """

    done: int
    total: int
    upcoming: tuple[str, ...]


class Ballot:
    """The votes of a study folder; safe to use from several threads and processes.

    Args:
        folder: holds `study.json`; `votes.sqlite` appears beside it.
        study: what is asked.

    Every method raises DataError where the file cannot be read or written: it is damaged, the disk is full, another
    process holds it for half a minute.

    Raises:
        DataError: the file there is no ballot, or one of another study.
    """

    def __init__(self, folder: Path, study: Study) -> None:
        self.path, self.study = folder / FILE, study
        with self._open() as db:
            db.executescript(_SCHEMA)
            found = _tables(db)
            with closing(sqlite3.connect(":memory:")) as other:
                other.executescript(_SCHEMA)
                wanted = _tables(other)
            for table, columns in wanted.items():
                if found[table] != columns:
                    have, need = (", ".join(name for name, *_ in one) for one in (found[table], columns))
                    raise self._broken(f"expected in its table {table} the columns {need}, got {have}")
            db.execute("INSERT INTO about SELECT ? WHERE NOT EXISTS (SELECT 1 FROM about)", [secrets.token_hex(16)])
            self._secret = str(db.execute("SELECT salt FROM about").fetchone()[0])
            known = {question.id for question in study.questions}
            strange = [q for (q,) in db.execute("SELECT DISTINCT question FROM asked") if q not in known]
            if strange:
                raise self._broken(f"it asks {len(strange)} questions that the study does not have")

    def _broken(self, what: str) -> DataError:
        return DataError(f"{self.path} holds no votes on this study: {what}.", fix="Move the file away.")

    def secret(self) -> str:
        """A random text that stays the same for all of this ballot's life, and is told to nobody."""
        return self._secret

    def invite(self, count: int) -> list[str]:
        """New invitation codes; each is good for one voter, on however many devices."""
        codes = [secrets.token_urlsafe(9) for _ in range(count)]
        with self._open() as db:
            db.executemany("INSERT INTO invites VALUES (?)", [(code,) for code in codes])
        return codes

    def register(self, address: str = "", invite: str | None = None) -> str | None:
        """A voter's token: a new one, or that of an invitation used before. None for an unknown invitation.

        Args:
            address: the network address, of which only a salted hash is kept: the report counts voters who share one.
            invite: a code of `invite`; needed as soon as there are any.
        """
        token = secrets.token_urlsafe(18)
        with self._open() as db:
            if db.execute("SELECT 1 FROM invites LIMIT 1").fetchone() or invite is not None:
                known = db.execute("SELECT 1 FROM invites WHERE code = ?", [invite]).fetchone()
                if known is None:
                    return None
                used = db.execute("SELECT token FROM voters WHERE invite = ?", [invite]).fetchone()
                if used is not None:
                    return str(used[0])
            where = hashlib.sha256(f"{self._secret}{address}".encode()).hexdigest()[:16]
            row = [token, invite, where, time.time()]
            voter = db.execute("INSERT INTO voters (token, invite, address, began) VALUES (?, ?, ?, ?)", row).lastrowid
            counts = dict(db.execute("SELECT question, COUNT(*) FROM votes GROUP BY question").fetchall())
            rng = np.random.default_rng((self.study.settings.seed, voter or 0))
            order = draw_session(self.study, counts, rng)
            db.executemany("INSERT INTO asked VALUES (?, ?, ?)", [(voter, i, q) for i, q in enumerate(order)])
        return token

    def state(self, token: str) -> VoterState | None:
        """Where the voter of a token is; None when nobody has that token."""
        with self._open() as db:
            return self._state(db, token)

    def vote(self, token: str, question: str, choice: Choice, seconds: float) -> bool:
        """Take an answer; False when the question is not the voter's open one: answered already, or not asked yet."""
        with self._open() as db:
            state = self._state(db, token)
            if state is None or not state.upcoming or state.upcoming[0] != question:
                return False
            (voter,) = db.execute("SELECT id FROM voters WHERE token = ?", [token]).fetchone()
            db.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?)", [voter, question, choice, seconds, time.time()])
        return True

    def votes(self) -> list[Vote]:
        """All answers, in the order of voters and of time."""
        with self._open() as db:
            rows = db.execute("SELECT voter, question, choice, seconds FROM votes ORDER BY voter, at, question")
            found = [Vote(*row) for row in rows.fetchall()]
        for vote in found:
            if vote.choice not in CHOICES or not isinstance(vote.seconds, float) or not math.isfinite(vote.seconds):
                raise self._broken(f"a vote says {vote.choice!r} after {vote.seconds!r} seconds")
        return found

    def shared_addresses(self) -> int:
        """Voters who came from an address that another one came from before."""
        with self._open() as db:
            row = db.execute("SELECT COUNT(*) - COUNT(DISTINCT address) FROM voters").fetchone()
            return int(row[0])

    @staticmethod
    def _state(db: sqlite3.Connection, token: str) -> VoterState | None:
        row = db.execute("SELECT id FROM voters WHERE token = ?", [token]).fetchone()
        if row is None:
            return None
        order: Sequence[tuple[str, int]] = db.execute(
            "SELECT a.question, v.voter IS NOT NULL FROM asked a "
            "LEFT JOIN votes v ON v.voter = a.voter AND v.question = a.question WHERE a.voter = ? ORDER BY a.place",
            row,
        ).fetchall()
        return VoterState(sum(done for _, done in order), len(order), tuple(q for q, done in order if not done))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection in a write transaction, committed where the block ends well."""
        try:
            with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as db:
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                except BaseException:
                    db.rollback()
                    raise
                if db.in_transaction:
                    db.commit()
        except (sqlite3.Error, UnicodeError) as error:
            raise DataError(
                f"{self.path} holds no votes, or cannot be written: {error}",
                fix="Where the disk is full or another program holds the file, end that. Else move the file away.",
            ) from error


def _tables(db: sqlite3.Connection) -> dict[str, list[tuple[str, str, int, int]]]:
    """Per table of a ballot its columns: name, type, whether it must have a value, place in the key."""
    tables = ("about", "invites", "voters", "asked", "votes")
    return {
        table: [
            (name, kind, needed, key) for _, name, kind, needed, _, key in db.execute(f"PRAGMA table_info({table})")
        ]
        for table in tables
    }
