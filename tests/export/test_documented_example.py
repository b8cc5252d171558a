"""The code in docs/export.md runs as printed, on exported files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from megaportraits.export.report import ExportReport
from megaportraits.runtimes.arrays import image_array
from tests.export.conftest import heads

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def test_the_example_of_the_documents_animates(base_export: ExportReport, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert "megaportraits" not in code and "torch" not in code
    names: dict[str, object] = {}
    exec(code.replace("EXPORT/", f"{base_export.folder}/"), names)
    animate = names["animate"]
    assert callable(animate)
    photo, first, second = (image_array(head.image) for head in heads(3, 32))
    fine = np.random.default_rng(0).random((1, 4, 64, 64)).astype(np.float32)
    frames = list(animate(photo, fine, [first, second]))
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 2
    assert frames[0].std() > 1 and np.abs(frames[0].astype(int) - frames[1]).max() > 3
