"""User studies: the choice of questions, what voters may do, and how votes are counted."""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from sqlite3 import connect
from typing import Any

import numpy as np
import pytest

from megaportraits.errors import DataError
from megaportraits.evaluation.study.make import make_study
from megaportraits.evaluation.study.plan import (
    KINDS,
    Question,
    Study,
    StudySettings,
    Triplet,
    draw_session,
    draw_triplets,
    question_id,
)
from megaportraits.evaluation.study.report import report_study
from megaportraits.evaluation.study.votes import Ballot, Vote
from megaportraits.media import VideoReader, VideoWriter, is_video, read_image
from tests.evaluation.study_files import METHODS, write_pairs


def drawn(methods: int = 3, pairs: int = 10, **settings: Any) -> list[Triplet]:
    names = [f"cross/{i}" for i in range(pairs)]
    return draw_triplets(
        names, {f"m{i}": set(names) for i in range(methods)}, StudySettings(**settings), np.random.default_rng(0)
    )


def study_of(triplets: list[Triplet], methods: tuple[str, ...] = METHODS, **settings: Any) -> Study:
    questions = tuple(Question(question_id(t, 0), t, "r", "a", "b") for t in triplets)
    return Study(methods, StudySettings(**settings), questions)


def test_methods_meet_equally_often_on_either_side_and_nothing_is_asked_twice() -> None:
    triplets = drawn(methods=3, pairs=40, questions=90)
    for kind in KINDS:
        mine = [t for t in triplets if t.kind == kind]
        meetings = Counter(frozenset((t.left, t.right)) for t in mine)
        assert set(meetings.values()) == {30}
        assert len({(frozenset((t.left, t.right)), t.pair) for t in mine}) == 90
        assert abs(sum(t.left < t.right for t in mine) - 45) < 20  # sides by chance


def test_a_pair_that_one_method_lacks_is_asked_about_the_others_only() -> None:
    both = {"x", "y"}
    triplets = draw_triplets(
        ["x", "y"], {"a": both, "b": both, "c": {"x"}}, StudySettings(questions=99), np.random.default_rng(0)
    )
    assert Counter((t.pair, "c" in (t.left, t.right)) for t in triplets) == {
        ("x", True): 4,
        ("x", False): 2,
        ("y", False): 2,
    }


def test_a_session_asks_what_has_the_fewest_votes_and_spreads_gold() -> None:
    gold = [Triplet(kind, f"p{i}", f"p{i}", "other", "left") for kind in KINDS for i in range(4)]
    study = study_of(drawn(pairs=20, questions=30) + gold, per_voter=24, gold_per_voter=6)
    asked = [q.id for q in study.questions if q.triplet.gold is None]
    often = dict.fromkeys(asked[::2], 5)
    session = draw_session(study, often, np.random.default_rng(1))
    by_id = study.by_id()
    assert len(session) == len(set(session)) == 24
    places = [i for i, q in enumerate(session) if by_id[q].triplet.gold is not None]
    assert Counter(by_id[session[i]].triplet.kind for i in places) == {"motion": 3, "appearance": 3}
    assert not [q for q in session if q in often]  # 18 of the 30 that nobody answered
    kinds = [by_id[q].triplet.kind for q in session]
    assert len(list(itertools.groupby(kinds))) == 2  # kind after kind
    assert session != draw_session(study, often, np.random.default_rng(2))


def seen(path: Path) -> list[bytes]:
    """What a file shows."""
    if is_video(path):
        return [frame.image.tobytes() for frame in VideoReader(path)]
    return [read_image(path).tobytes()]


def test_files_of_a_study_tell_no_method_and_are_all_alike(tmp_path: Path) -> None:
    pairs, methods = write_pairs(tmp_path)
    out = tmp_path / "study"
    study, missing = make_study(out, pairs, methods, StudySettings(questions=100, gold=2, size=48))
    assert missing == {"good": 0, "fair": 0, "poor": 0}
    assert len([q for q in study.questions if q.triplet.gold is None]) == 2 * 3 * 4
    assert Study.read(out) == study
    files = {name for q in study.questions for name in (q.reference, q.left, q.right)}
    assert {path.name for path in (out / "media").iterdir()} == files
    assert len(files) == 3 * len(study.questions)  # no two places share one
    for name in files:
        path = out / "media" / name
        shape = next(iter(VideoReader(path))).image.shape if is_video(path) else read_image(path).shape
        assert shape == (48, 48, 3)
        assert not any(word in name for word in ("good", "fair", "poor", "red", "left"))
    for q in study.questions:
        if q.triplet.gold is not None:  # the known answer is the reference itself, which no name and no length tells
            right, wrong = (q.left, q.right) if q.triplet.gold == "left" else (q.right, q.left)
            assert seen(out / "media" / q.reference) == seen(out / "media" / right) != seen(out / "media" / wrong)
            assert len({(out / "media" / name).stat().st_size for name in (q.reference, right)}) == 2
        assert is_video(out / "media" / q.reference) == (q.triplet.kind == "motion")
    with pytest.raises(DataError, match="holds a study already"):
        make_study(out, pairs, methods, StudySettings())


def test_a_result_with_the_drivers_frames_is_shown_at_the_drivers_times(tmp_path: Path) -> None:
    pairs, methods = write_pairs(tmp_path)
    thinned = [replace(pair, step=2, frames=3) for pair in pairs]
    for name in METHODS:  # three frames, as made from every second driver frame
        for path in methods[name].rglob("*.mp4"):
            frames = [frame.image for frame in VideoReader(path)][::2]
            with VideoWriter(path, fps=25, overwrite=True) as video:
                for frame in frames:
                    video.write(frame)
    study, _ = make_study(tmp_path / "study", thinned, methods, StudySettings(gold=0, gold_per_voter=0))
    question = next(q for q in study.questions if q.triplet.kind == "motion")
    for name in (question.reference, question.left, question.right):
        times = [frame.time for frame in VideoReader(tmp_path / "study/media" / name)]
        assert times == pytest.approx([0, 0.2, 0.4])


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    pairs, methods = write_pairs(tmp_path)
    with pytest.raises(DataError, match="at least two methods, got 1"):
        make_study(tmp_path / "s", pairs, {"good": methods["good"]}, StudySettings())
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no result of any pair"):
        make_study(tmp_path / "s", pairs, methods | {"none": tmp_path / "none"}, StudySettings())
    with pytest.raises(DataError, match="two different drivers"):
        make_study(tmp_path / "s", pairs[::2], methods, StudySettings(gold=1, gold_per_voter=1))
    with pytest.raises(DataError, match="more than fit"):
        make_study(tmp_path / "s", pairs, methods, StudySettings(gold=1, gold_per_voter=3))


@pytest.fixture
def ballot(tmp_path: Path) -> Ballot:
    return Ballot(tmp_path, study_of(drawn(pairs=12, questions=12), per_voter=8, gold_per_voter=0))


def test_only_the_open_question_is_answered_and_only_once(ballot: Ballot) -> None:
    token = ballot.register()
    assert token is not None
    before = ballot.state(token)
    assert before is not None and before.done == 0 and before.total == len(before.upcoming) == 8
    first, second = before.upcoming[:2]
    assert not ballot.vote(token, second, "left", 1)
    assert ballot.vote(token, first, "left", 1) and not ballot.vote(token, first, "right", 1)
    assert not ballot.vote("stranger", second, "left", 1)
    after = ballot.state(token)
    assert after is not None and after.done == 1 and after.upcoming == before.upcoming[1:]
    assert [(v.question, v.choice) for v in ballot.votes()] == [(first, "left")]


def test_votes_sent_at_once_count_once(ballot: Ballot) -> None:
    token = ballot.register()
    assert token is not None
    state = ballot.state(token)
    assert state is not None
    taken: list[bool] = []
    threads = [
        threading.Thread(target=lambda: taken.append(ballot.vote(token, state.upcoming[0], "left", 1)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 7 + [True] and len(ballot.votes()) == 1


def test_an_invitation_is_one_voter_on_every_device_and_then_nobody_else_gets_in(ballot: Ballot) -> None:
    one, two = ballot.invite(2)
    token = ballot.register("phone", one)
    assert token is not None and ballot.register("desk", one) == token
    assert ballot.register("desk", two) not in (None, token)
    assert ballot.register("desk", "guessed") is None and ballot.register("desk") is None


def test_votes_survive_a_restart_and_the_order_stays(ballot: Ballot) -> None:
    token = ballot.register("here")
    assert token is not None
    state = ballot.state(token)
    assert state is not None and ballot.vote(token, state.upcoming[0], "right", 2)
    again = Ballot(ballot.path.parent, ballot.study)
    later = again.state(token)
    assert later is not None and later.upcoming == state.upcoming[1:]
    assert again.register("here") != token and again.shared_addresses() == 1
    assert "here" not in ballot.path.read_bytes().decode("latin1")


def test_a_file_that_is_no_ballot_is_refused(tmp_path: Path) -> None:
    (tmp_path / "votes.sqlite").write_bytes(b"something else entirely" * 100)
    with pytest.raises(DataError, match="holds no votes"):
        Ballot(tmp_path, study_of(drawn()))


def sqlite(path: Path, script: str) -> None:
    with closing(connect(path)) as db, db:
        db.executescript(script)


def test_ballots_with_other_tables_or_of_another_study_are_refused(tmp_path: Path) -> None:
    study = study_of(drawn(pairs=12, questions=12), per_voter=8, gold_per_voter=0)
    other = study_of(drawn(pairs=3, questions=3), per_voter=2, gold_per_voter=0)
    wrong = {
        "voters (id INTEGER PRIMARY KEY, name TEXT)": "table voters .* got id, name",
        "votes (voter TEXT, question TEXT, choice TEXT, seconds TEXT, at TEXT)": "table votes",
        "about (pepper BLOB)": "table about",
    }
    for number, (table, message) in enumerate(wrong.items()):
        (folder := tmp_path / str(number)).mkdir()
        sqlite(folder / "votes.sqlite", f"CREATE TABLE {table}")
        with pytest.raises(DataError, match=message):
            Ballot(folder, study)
    sqlite(tmp_path / "votes.sqlite", "CREATE VIEW votes AS SELECT 1 AS voter")
    with pytest.raises(DataError, match="holds no votes"):
        Ballot(tmp_path, study)
    (tmp_path / "votes.sqlite").unlink()
    Ballot(tmp_path, study).register()
    with pytest.raises(DataError, match=r"questions that the study does not have"):
        Ballot(tmp_path, other)


def test_a_ballot_that_breaks_while_it_is_used_says_so(ballot: Ballot) -> None:
    token = ballot.register()
    state = ballot.state(str(token))
    assert state is not None and ballot.vote(str(token), state.upcoming[0], "left", 1)
    sqlite(ballot.path, "UPDATE votes SET seconds = 'long'")
    with pytest.raises(DataError, match="'left' after 'long' seconds"):
        ballot.votes()
    sqlite(ballot.path, "DROP TABLE votes")
    for use in (ballot.votes, ballot.register, lambda: ballot.state(str(token))):
        with pytest.raises(DataError, match="no such table: votes"):
            use()


def test_a_broken_study_file_is_reported_with_its_place(tmp_path: Path) -> None:
    written = study_of(drawn(pairs=2, questions=2))
    renamed = [replace(q, reference="r.jpg", left="a.mp4", right="b.mp4") for q in written.questions]
    replace(written, questions=tuple(renamed)).write(tmp_path)
    good = json.loads((tmp_path / "study.json").read_text())
    first = good["questions"][0]
    broken: dict[str, Any] = {
        "format": good | {"format": 7},
        "settings.per_voter": good | {"settings": good["settings"] | {"per_voter": "many"}},
        "settings.size": good | {"settings": good["settings"] | {"size": -1}},
        "settings.seconds": good | {"settings": good["settings"] | {"seconds": math.inf}},
        "questions.0.triplet.kind": good | {"questions": [first | {"triplet": first["triplet"] | {"kind": "sound"}}]},
        r"'\.\./votes\.mp4'": good | {"questions": [first | {"left": "../votes.mp4"}]},
        "names of .mp4 and .jpg": good | {"questions": [first | {"left": "notes.html"}]},
        "same id": good | {"questions": [first, first]},
        "not both are methods": good | {"methods": ["one"]},
        "questions: Tuple should have at least 1": good | {"questions": []},
        "should be an object": [good],
    }
    texts = {message: json.dumps(content).encode() for message, content in broken.items()}
    texts |= {
        "Invalid JSON": b"{" * 100_000,
        "recursion limit": b"[" * 100_000,
        "invalid unicode": b'{"format": "\xff"}',
    }
    texts |= {"EOF": b""}
    for message, text in texts.items():
        (tmp_path / "study.json").write_bytes(text)
        with pytest.raises(DataError, match=message):
            Study.read(tmp_path)


def answers(study: Study, voter: int, prefer: tuple[str, ...], *, attentive: bool = True) -> list[Vote]:
    """A voter who always prefers the earlier method of `prefer`."""
    votes = []
    for q in study.questions:
        t = q.triplet
        if t.gold is not None:
            side: Any = t.gold if attentive else {"left": "right", "right": "left"}[t.gold]
        else:
            side = "left" if prefer.index(t.left) < prefer.index(t.right) else "right"
        votes.append(Vote(voter, q.id, side, 2.0))
    return votes


def gold_study(pairs: int = 12) -> Study:
    names = [f"p{i}" for i in range(pairs)]
    triplets = draw_triplets(
        names, {m: set(names) for m in METHODS}, StudySettings(questions=3 * pairs), np.random.default_rng(0)
    )
    return study_of([*triplets, *(Triplet(kind, "p0", "p0", f"p{i}", "left") for kind in KINDS for i in (1, 2))])


def test_shares_are_the_papers_and_add_up_to_a_hundred() -> None:
    study = gold_study()
    votes = [v for voter in range(5) for v in answers(study, voter, METHODS)]
    found = report_study(study, votes)
    for kind in KINDS:
        percent = [found.shares[kind][m].percent for m in METHODS]
        assert percent == pytest.approx([200 / 3, 100 / 3, 0])
        assert [found.wins[kind][m].percent for m in METHODS] == [100, 50, 0]
        assert found.duels[kind] == {("good", "fair"): 60, ("good", "poor"): 60, ("fair", "poor"): 60}
    assert "| good | 66.7 (" in found.to_markdown()
    assert report_study(study, votes) == found  # the same votes, the same figures


def test_voters_who_fail_gold_are_left_out_and_counted() -> None:
    study = gold_study()
    honest = answers(study, 0, METHODS)
    contrary = [v for voter in (1, 2) for v in answers(study, voter, METHODS[::-1], attentive=False)]
    found = report_study(study, honest + contrary)
    assert (found.voters, found.failed) == (3, 2)
    assert found.shares == report_study(study, honest).shares
    assert "2 of 3 voters are left out" in found.to_markdown()


def test_what_could_not_be_played_is_no_vote() -> None:
    study = gold_study()
    broken = [Vote(7, q.id, "broken", 1.0) for q in study.questions]
    found = report_study(study, answers(study, 0, METHODS) + broken)
    assert found.broken == len(study.questions) and found.failed == 0
    assert found.shares == report_study(study, answers(study, 0, METHODS)).shares


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Voters and pairs have opinions of their own; 95 % intervals over 40 repeats, two methods."""
    rng = np.random.default_rng(5)
    names = [f"p{i}" for i in range(24)]
    study = study_of([Triplet("motion", name, "a", "b") for name in names], methods=("a", "b"))
    inside, widths = 0, []
    for _ in range(40):
        taste, ease = rng.normal(size=20) * 0.6, rng.normal(size=24) * 0.6
        votes = [
            Vote(v, q.id, "left" if rng.random() < 1 / (1 + math.exp(-(taste[v] + ease[i]))) else "right", 1.0)
            for v in range(20)
            for i, q in enumerate(study.questions)
        ]
        share = report_study(study, votes).shares["motion"]["a"]
        inside += share.low <= 50 <= share.high
        widths.append(share.high - share.low)
    assert 35 <= inside <= 40 and np.mean(widths) < 30


def test_an_empty_study_reports_nothing_without_failing() -> None:
    found = report_study(gold_study(), [])
    assert found.voters == 0 and math.isnan(found.shares["motion"]["good"].percent)
    assert '"percent": null' in found.to_json() and "| good | - |" in found.to_markdown()
