"""The notebook runs from top to bottom and shows its pictures, and no output is stored in it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from PIL import Image

NOTEBOOK = json.loads((Path(__file__).parents[1] / "notebooks/animate.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def run(cell: str, names: dict[str, Any]) -> Any:
    """Execute a cell as a notebook does; its last expression's value, which is shown."""
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


def test_every_cell_runs_and_the_pictures_are_shown(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    shown = [picture for cell in CELLS if isinstance(picture := run(cell, names), Image.Image)]
    assert [picture.size for picture in shown[:2]] == [(512, 512), (512, 512)]
    crop, turned = shown[2:]
    assert crop.width == 2 * crop.height and turned.width == 3 * turned.height
    assert len(names["frames"]) == 3 and callable(names["write"])


def test_no_output_is_stored() -> None:
    assert NOTEBOOK["nbformat"] == 4
    assert all(
        cell["outputs"] == [] and cell["execution_count"] is None for cell in NOTEBOOK["cells"] if "outputs" in cell
    )
