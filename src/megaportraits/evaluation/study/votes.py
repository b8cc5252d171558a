"""The votes of a study in an SQLite database: each voter's questions in order, and one answer to each.

A voter is identified by a random token that the browser stores. The order of questions is drawn once and stored, so
that a voter who reloads the page continues at the same question. An answer counts only for the voter's open question,
and only the first one.
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
"""The possible answers: a side, or that the question could not be played."""
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
    """The progress of a voter.

    Attributes:
        done: number of answered questions.
        total: number of all questions.
        upcoming: ids of the open question and of the following ones.
    """

    done: int
    total: int
    upcoming: tuple[str, ...]


class Ballot:
    """The votes of a study folder; safe to use from several threads and processes.

    Every method raises DataError if the database cannot be read or written: it is damaged, the disk is full, or another
    process locks it for half a minute.

    Args:
        folder: folder with `study.json`; `votes.sqlite` is created in it.
        study: the study.

    Raises:
        DataError: the existing file is not a database of votes, or belongs to another study.
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
        """A random text that never changes and is never published."""
        return self._secret

    def invite(self, count: int) -> list[str]:
        """Make new invitation codes; each is for one voter, on any number of devices."""
        codes = [secrets.token_urlsafe(9) for _ in range(count)]
        with self._open() as db:
            db.executemany("INSERT INTO invites VALUES (?)", [(code,) for code in codes])
        return codes

    def register(self, address: str = "", invite: str | None = None) -> str | None:
        """Register a voter; returns a new token, or the token of an invitation that was used before.

        Args:
            address: the network address. Only a salted hash is stored; the report counts voters who share an address.
            invite: a code from `invite`; required if there are any codes.

        Returns:
            The token, or None for an unknown invitation.
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
        """The progress of the voter with a token; None if there is no such voter."""
        with self._open() as db:
            return self._state(db, token)

    def vote(self, token: str, question: str, choice: Choice, seconds: float) -> bool:
        """Store an answer; False if the question is not the voter's open one: it is answered, or comes later."""
        with self._open() as db:
            state = self._state(db, token)
            if state is None or not state.upcoming or state.upcoming[0] != question:
                return False
            (voter,) = db.execute("SELECT id FROM voters WHERE token = ?", [token]).fetchone()
            db.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?)", [voter, question, choice, seconds, time.time()])
        return True

    def votes(self) -> list[Vote]:
        """All answers, sorted by voter and time."""
        with self._open() as db:
            rows = db.execute("SELECT voter, question, choice, seconds FROM votes ORDER BY voter, at, question")
            found = [Vote(*row) for row in rows.fetchall()]
        for vote in found:
            if vote.choice not in CHOICES or not isinstance(vote.seconds, float) or not math.isfinite(vote.seconds):
                raise self._broken(f"a vote says {vote.choice!r} after {vote.seconds!r} seconds")
        return found

    def shared_addresses(self) -> int:
        """The number of voters whose address another voter has used before."""
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
        """Open a connection with a write transaction, which is committed unless the block raises."""
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
    """For each table, its columns: name, type, whether a value is required, position in the primary key."""
    tables = ("about", "invites", "voters", "asked", "votes")
    return {
        table: [
            (name, kind, needed, key) for _, name, kind, needed, _, key in db.execute(f"PRAGMA table_info({table})")
        ]
        for table in tables
    }
