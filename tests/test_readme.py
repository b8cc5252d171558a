"""What the documents tell people to type exists: commands with their options, make targets, files, links, imports."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from megaportraits.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = typer.main.get_command(app)


def code_lines(page: Path) -> Iterator[str]:
    """Lines of fenced and of indented code blocks, and inline code, without comments."""
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip().split("  #")[0]
        else:
            yield from (code.strip() for code in re.findall(r"`([^`]+)`", line))


def commands() -> list[tuple[str, str]]:
    """Every full `megaportraits ...` line, with the page it is on; mentions of a bare command name are left out."""
    return [
        (page.name, line)
        for page in PAGES
        for line in code_lines(page)
        if line.startswith("megaportraits ") and " -" in line and "|" not in line
    ]


def python_blocks() -> list[tuple[str, str]]:
    return [
        (page.name, block)
        for page in PAGES
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]


def test_the_readme_shows_the_main_commands() -> None:
    shown = {line.split()[1] for page, line in commands() if page == "README.md"}
    assert {"animate", "demo", "evaluate", "synth", "train"} <= shown


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_in_the_documents_is_understood(page: str, line: str) -> None:
    command: Any = COMMAND
    words = shlex.split(line)[1:]
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"{page}: no command {name!r}"
        command = command.commands[name]
    command.make_context(line, words)  # a wrong option, value or missing argument is a UsageError


def test_every_command_that_is_only_named_exists() -> None:
    for page in PAGES:
        for line in code_lines(page):
            if line.startswith("megaportraits "):
                assert line.split()[1] in COMMAND.commands, f"{page.name}: {line}"  # type: ignore[attr-defined]


def test_every_make_target_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {line.split()[1] for page in PAGES for line in code_lines(page) if line.startswith("make ")}
    assert targets >= {"demo", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_link_and_script_in_the_documents_leads_to_a_file() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"
        for line in code_lines(page):
            for script in re.findall(r"^python (\S+\.py)", line):
                assert (ROOT / script).is_file(), f"{page.name}: {script}"


@pytest.mark.parametrize(("page", "block"), python_blocks())
def test_every_import_in_the_documents_works(page: str, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{page}: {node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
