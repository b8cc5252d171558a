"""The web site: its navigation and its API reference hold every page and every sub-package."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import megaportraits

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """`tools/site.py`, whatever else is called `site`."""
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "tools/site.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation_once(hooks: ModuleType) -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = [page for part in navigation for page in ([part] if isinstance(part, str) else next(iter(part.values())))]
    there = {path.name for path in (ROOT / "docs").glob("*.md")} | set(hooks.PAGES.values())
    assert sorted(listed) == sorted(there)


def test_every_public_class_and_function_is_in_the_reference(hooks: ModuleType) -> None:
    package = Path(megaportraits.__file__).parent
    rooms = {path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")}
    assert set(hooks.rooms()) == {room for room in rooms if not room.startswith("__")}
    shown = re.findall(r"^::: (\S+)$", "".join(hooks.reference(room) for room in hooks.rooms()), re.MULTILINE)
    public = re.compile(r"^(?:class|def) [A-Za-z]", re.MULTILINE)
    defining = {path for path in package.rglob("*.py") if public.search(path.read_text(encoding="utf-8"))}
    named = {".".join(path.relative_to(package.parent).with_suffix("").parts) for path in defining}
    assert sorted(shown) == sorted(name.removesuffix(".__init__") for name in named)


def test_links_of_moved_pages_lead_to_pages_and_others_become_text(hooks: ModuleType) -> None:
    text = hooks.moved(ROOT / "README.md")
    assert "](animate.md)" in text and "](model-card.md)" in text and "](docs/" not in text
    assert "[Apache-2.0]" not in text and "Apache-2.0" in text


def test_documented_arguments_are_parameters_one_a_line() -> None:
    wrong = []
    for path in sorted(Path(megaportraits.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                function: ast.FunctionDef | None = node
            elif isinstance(node, ast.ClassDef):
                methods = (one for one in node.body if isinstance(one, ast.FunctionDef))
                function = next((one for one in methods if one.name == "__init__"), None)
            else:
                continue
            section = re.search(r"^Args:\n((?: .*\n|\n)*)", f"{ast.get_docstring(node) or ''}\n", re.MULTILINE)
            if function is not None and section:
                args = function.args
                known = {a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg) if a}
                named = re.findall(r"^    (\S[^:\n]*):", section[1], re.MULTILINE)
                wrong += [f"{path.name}:{node.lineno}: {name}" for name in named if name.lstrip("*") not in known]
    assert not wrong
