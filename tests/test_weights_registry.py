"""Every registered file is used, and only registered files are downloaded."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import megaportraits
from megaportraits.weights_registry import BY_NAME

ROOT = Path(megaportraits.__file__).parent
READERS = {"fetch", "lookup", "_present", "find_weights"}


def constants(tree: ast.Module) -> dict[str, str]:
    """Texts that a module gives names to."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
    return found


def read_by(path: Path) -> Iterator[str]:
    """Names that a module gives to one of `READERS`, literally or by a constant of its own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = constants(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0]
        if called not in READERS:
            continue
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value
        elif isinstance(first, ast.Name) and first.id in named:
            yield named[first.id]


def test_every_registered_file_has_a_reader_and_every_reader_a_registered_file() -> None:
    modules = [path for path in ROOT.rglob("*.py") if path.name not in ("weights_registry.py", "weights.py")]
    readers = {name: path.name for path in modules for name in read_by(path)}
    assert set(BY_NAME) - set(readers) == set()
    assert set(readers) - set(BY_NAME) == set()
