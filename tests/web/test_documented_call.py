"""The code in docs/web.md runs as printed, against a real server."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from megaportraits.pipeline import AnimateOptions, AnimateReport, Avatar, MotionMode
from megaportraits.pipeline.demo import demo_driver
from tests.web.served import served

pytest.importorskip("gradio", reason="the web extra is not installed")
pytest.importorskip("gradio_client")
page = pytest.importorskip("megaportraits.web.page")

PAGE = Path(__file__).parents[2] / "docs" / "web.md"


def test_the_call_of_the_documents_asks_for_relative_motion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[AnimateOptions] = []

    def animate(
        avatar: object, source: Path, driver: Path, folder: str, options: AnimateOptions, **more: Any
    ) -> AnimateReport:
        assert (source.name, driver.name) == ("person.jpg", "driver.mp4")
        asked.append(options)
        output = Path(folder) / "result.mp4"
        shutil.copy(driver, output)
        return AnimateReport(output, 100, 0, 1, None, False, None)

    monkeypatch.setattr("megaportraits.web.studio.animate_file", animate)
    monkeypatch.chdir(tmp_path)
    shutil.copy(page.example_photos()[0], "person.jpg")
    shutil.copy(demo_driver(), "driver.mp4")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert "http://localhost:7860" in code
    names: dict[str, Any] = {}
    with page.page_app(cast(Avatar, object())) as app, served(app) as address:
        exec(code.replace("http://localhost:7860", address), names)
    assert [options.motion for options in asked] == [MotionMode.RELATIVE]
    assert asked[0].motion is MotionMode.RELATIVE
    video = names["video"]
    path = Path(video["video"] if isinstance(video, dict) else video)
    assert path.read_bytes() == demo_driver().read_bytes() and path.is_relative_to(tmp_path)
    assert names["note"] == "100 frames."
