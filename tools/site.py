"""MkDocs hooks: add pages from files outside docs/, and the API reference with one page for each sub-package."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/megaportraits"
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "src/megaportraits/assets/nano/MODEL_CARD.md": "model-card.md",
}


def on_config(config: Any) -> Any:
    """Append the reference to the navigation."""
    config.nav.append({"Reference": [{room: f"reference/{room}.md"} for room in rooms()]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=moved(ROOT / source)))
    for room in rooms():
        files.append(File.generated(config, f"reference/{room}.md", content=reference(room)))
    return files


def moved(source: Path) -> str:
    """A file's text with its links adapted to the site. Links to files that are not pages become plain text."""

    def link(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / found[2]))
        page = PAGES.get(target.relative_to(ROOT).as_posix())
        if page is None and target.is_relative_to(ROOT / "docs"):
            page = target.relative_to(ROOT / "docs").as_posix()
        return f"[{found[1]}]({page}" if page else f"[{found[1]}](#"

    text = source.read_text(encoding="utf-8")
    text = re.sub(r"\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)", link, text)
    return re.sub(r"\[([^\]]*)\]\(#\)", r"\1", text)


def rooms() -> list[str]:
    """Sub-packages and modules directly below the package, such as `pipeline` and `errors`."""
    found = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    found |= {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    return sorted(found)


def reference(room: str) -> str:
    """The page of a sub-package: every module with public names, in alphabetical order."""
    return f"# megaportraits.{room}\n\n" + "".join(f"::: megaportraits.{name}\n\n" for name in modules(room))


def modules(room: str) -> Iterator[str]:
    """Dotted names, relative to the package, of a sub-package's modules that define public names."""
    folder = PACKAGE / room
    paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        if any(not name.startswith("_") for name in names):
            yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
