"""`megaportraits study` from the command line."""

from __future__ import annotations

import json
import socket
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from megaportraits.commands.study import study_app
from megaportraits.errors import DataError
from megaportraits.evaluation.pairs import write_manifest
from megaportraits.evaluation.study.plan import Study
from megaportraits.evaluation.study.votes import Ballot
from tests.evaluation.study_files import METHODS, write_pairs

RUN = CliRunner()


def given(folder: Path) -> list[str]:
    """Arguments of `study make` for three methods."""
    pairs, methods = write_pairs(folder)
    write_manifest(folder / "pairs.csv", pairs)
    chosen = [word for name, path in methods.items() for word in ("--method", f"{name}={path}")]
    return ["make", "--pairs", str(folder / "pairs.csv"), *chosen, "--size", "64", "--out", str(folder / "study")]


def test_a_study_is_made_voted_on_and_reported(tmp_path: Path) -> None:
    made = RUN.invoke(study_app, [*given(tmp_path), "--gold", "1"], catch_exceptions=False)
    assert made.exit_code == 0 and "12 questions about motion, 12 about appearance, 2 gold" in made.output
    study = Study.read(tmp_path / "study")
    assert study.methods == METHODS and study.settings.gold_per_voter == 2
    ballot = Ballot(tmp_path / "study", study)
    token = ballot.register()
    assert token is not None
    while (state := ballot.state(token)) and state.upcoming:
        triplet = study.by_id()[state.upcoming[0]].triplet
        ballot.vote(token, state.upcoming[0], triplet.gold or ("left" if triplet.left == "good" else "right"), 2)
    report = ["report", str(tmp_path / "study"), "--out", str(tmp_path / "report")]
    told = RUN.invoke(study_app, report, catch_exceptions=False).output
    assert "0 of 1 voters are left out" in told and "| good | 66.7" in told
    found = json.loads((tmp_path / "report/study-report.json").read_text())
    assert found["percent_of_comparisons_won"]["UMTN"]["good"]["percent"] == 100
    assert found["percent_of_votes"]["UAPP"]["good"]["votes"] == 12


def test_a_pair_that_a_method_lacks_is_reported(tmp_path: Path) -> None:
    arguments = given(tmp_path)
    (tmp_path / "poor/red-left.mp4").unlink()
    made = RUN.invoke(study_app, [*arguments, "--gold", "0"], catch_exceptions=False)
    assert made.exit_code == 0 and "poor lacks the results of 1 pairs" in made.output


@pytest.mark.parametrize("method", ["good", "=folder", "good="])
def test_a_method_without_name_or_folder_is_refused(tmp_path: Path, method: str) -> None:
    arguments = ["make", "--pairs", "p.csv", "--method", method, "--out", str(tmp_path)]
    with pytest.raises(DataError, match="expected NAME=FOLDER"):
        RUN.invoke(study_app, arguments, catch_exceptions=False)


def made(folder: Path) -> Path:
    RUN.invoke(study_app, [*given(folder), "--gold", "0"], catch_exceptions=False)
    return folder / "study"


def invitations(study: Path) -> int:
    with sqlite3.connect(study / "votes.sqlite") as db:
        return int(db.execute("SELECT COUNT(*) FROM invites").fetchone()[0])


def test_no_invitation_is_kept_where_the_port_is_taken(tmp_path: Path) -> None:
    study = made(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        arguments = ["serve", str(study), "--invites", "2", "--port", str(other.getsockname()[1])]
        with pytest.raises(DataError, match="is in use"):
            RUN.invoke(study_app, arguments, catch_exceptions=False)
    assert invitations(study) == 0


def test_links_have_one_slash_behind_their_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = made(tmp_path)
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    arguments = ["serve", str(study), "--invites", "2", "--port", "0", "--address", "https://study.example.org/"]
    told = RUN.invoke(study_app, arguments, catch_exceptions=False).output
    assert told.count("https://study.example.org/?invite=") == invitations(study) == 2


def test_a_folder_without_a_study_is_reported(tmp_path: Path) -> None:
    for command in ("report", "serve"):
        with pytest.raises(DataError, match="holds no study"):
            RUN.invoke(study_app, [command, str(tmp_path)], catch_exceptions=False)
