"""Commands, options, make targets, files, links and imports in the documents exist."""

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
from megaportraits.config import (
    Config,
    TrainBaseConfig,
    TrainComponentLandmarksConfig,
    TrainEnhancerConfig,
    TrainGazeConfig,
    TrainHeadPoseConfig,
    TrainOneStageConfig,
    TrainStudentConfig,
    load_config,
)

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = typer.main.get_command(app)


def code_lines(page: Path) -> Iterator[str]:
    """Lines of fenced and of indented code blocks, and inline code, without comments; a backslash joins two lines."""
    fenced, begun = False, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            begun += line.strip().split("  #")[0]
            if begun.endswith("\\"):
                begun = begun.removesuffix("\\")
            else:
                yield begun
                begun = ""
        else:
            yield from (code.strip() for code in re.findall(r"`([^`]+)`", line))


def commands() -> list[tuple[str, str]]:
    """Every full `megaportraits ...` line, with the page it is on, also behind torchrun and srun.

    Mentions of a bare command name are left out.
    """
    return [
        (page.name, found[1])
        for page in PAGES
        for line in code_lines(page)
        if (found := re.match(r"(?:(?:srun |torchrun ).*-m )?(megaportraits .* -[^|]*)$", line))
    ]


def program_words(line: str) -> tuple[Any, list[str]]:
    """The command that a line calls, and what is passed to it; AssertionError where there is no such command."""
    command: Any = COMMAND
    words = [word for word in shlex.split(line)[1:] if not word.startswith("$")]  # a shell's variable may be empty
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"no command {name!r} in {line}"
        command = command.commands[name]
    return command, words


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
    command, words = program_words(line)
    command.make_context(page, words)  # a wrong option, value or missing argument is a UsageError


RECIPES: dict[str, tuple[type[Config], str]] = {
    "train base": (TrainBaseConfig, "nano"),
    "train motion": (TrainBaseConfig, "nano"),
    "train enhancer": (TrainEnhancerConfig, "nano-hr"),
    "train one-stage": (TrainOneStageConfig, "one-stage-512-frozen"),
    "train gaze": (TrainGazeConfig, "gaze-nano"),
    "train component-landmarks": (TrainComponentLandmarksConfig, "component-landmarks"),
    "train head-pose": (TrainHeadPoseConfig, "head-pose-nano"),
    "distill": (TrainStudentConfig, "student-nano"),
    "student add": (TrainStudentConfig, "student-nano-add"),
    "ablate": (TrainBaseConfig, "nano"),
}
"""What the commands that train read: the kind of config, and the one they take where none is named."""


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_config_and_setting_in_the_documents_exists(page: str, line: str) -> None:
    command, words = program_words(line)
    name = " ".join(shlex.split(line)[1:][: -len(words)])
    if name not in RECIPES:
        return
    schema, default = RECIPES[name]
    values = command.make_context(page, words).params
    if name == "ablate" and values["base"]:
        schema = TrainEnhancerConfig
    named = values["config"] or default
    for config in [named] if isinstance(named, str) else named:
        load_config(schema, config, values["overrides"] or [])  # what does not exist is a ConfigError


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


OF_OTHERS = {"rt_gene"}
"""Modules of programs that this one does not depend on, which a document uses."""


@pytest.mark.parametrize(("page", "block"), python_blocks())
def test_every_import_in_the_documents_works(page: str, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.partition(".")[0] in OF_OTHERS:
                continue
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{page}: {node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
