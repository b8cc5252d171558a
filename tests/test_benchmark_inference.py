"""`benchmarks/inference.py` works with the current program."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from megaportraits.config import ModelConfig

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "inference.py"


def test_every_way_is_listed_with_its_ratio_to_the_first(
    tiny_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("benchmark_inference", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark_inference", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")  # bfloat16 takes seconds there
    text = io.StringIO()
    module.measure(tiny_config, 2, 1, Console(file=text, width=120))
    rows = [line for line in text.getvalue().splitlines() if "float32" in line and "│" in line]
    assert [row.split("│")[1].strip() for row in rows] == ["as trained, float32", "prepared, float32"]
    assert rows[0].split("│")[3].strip() == "1.00"
    assert "author" not in text.getvalue()
    module.measure(tiny_config, 2, 1, Console(file=text, width=120), author=True)
    assert "prepared, float32 / author's later structure, float32" in text.getvalue()
    works = [way.model.projection for way in module.ways_of(tiny_config, author=True)]
    assert len(works[-1]) == 2 and type(works[0]).__name__ == "Projection"
    assert "GMAC a frame" in text.getvalue() and "Peak: float32" in text.getvalue()
