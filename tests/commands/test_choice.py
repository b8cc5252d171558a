"""Options with a closed set of values: the library defines the set, `--help` shows it, other values are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import megaportraits.commands
from megaportraits.cli import app

COMMANDS = Path(megaportraits.commands.__file__).parent


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "TERM": "dumb"})
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("evaluate", "self|cross|hr|student"),
        ("pairs", "self|cross|hr|student"),
        ("export student", "float16|int8"),
        ("animate", "auto|float32|bfloat16"),
        ("live", "auto|torch|onnxruntime|openvino"),
    ],
)
def test_help_shows_the_values_of_an_option(command: str, shown: str) -> None:
    code, text = run(*command.split(), "--help")
    assert code == 0 and shown in text


def test_another_value_is_refused_with_the_values_that_exist(tmp_path: Path) -> None:
    code, text = run("evaluate", "--out", str(tmp_path / "out"), "--protocol", "self", "--protocol", "best")
    assert code == 2 and "'best' is not one of 'self', 'cross', 'hr', 'student'" in text
    code, text = run("export", "base", "--out", str(tmp_path / "out"), "--precision", "int4")
    assert code == 2 and "'int4' is not one of 'float16', 'int8'" in text
    assert not (tmp_path / "out").exists()


def test_commands_define_no_set_of_values_of_their_own() -> None:
    assert [path.name for path in COMMANDS.glob("*.py") if "Literal[" in path.read_text(encoding="utf-8")] == []
