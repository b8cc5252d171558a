"""The page behind a real server, asked by a real client, with what ships in the package."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from megaportraits.cli import app as program
from megaportraits.errors import ConfigError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.media import VideoReader, read_image
from megaportraits.pipeline.demo import demo_driver
from tests.pipeline.conftest import analyzer, echo_avatar
from tests.web.served import served

pytest.importorskip("gradio", reason="the web extra is not installed")
gradio_client = pytest.importorskip("gradio_client")
page = pytest.importorskip("megaportraits.web.page")
UploadLimits = pytest.importorskip("megaportraits.web.uploads").UploadLimits

__all__ = ["analyzer"]
TINY = {"size": 64, "max_side": 96, "max_seconds": 0.2}


@pytest.fixture(scope="module")
def address(analyzer: FaceAnalyzer) -> Iterator[str]:
    """Where the page is served, with a network whose answers are the driver's own crops."""
    with page.page_app(echo_avatar(analyzer), limits=UploadLimits(bytes=1_000_000)) as app, served(app) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("downloads")
    patient = {"timeout": 60}
    return gradio_client.Client(
        address, verbose=False, analytics_enabled=False, download_files=folder, httpx_kwargs=patient
    )


def photo() -> Any:
    return gradio_client.handle_file(page.example_photos()[0])


def video(path: Path | None = None) -> Any:
    return {"video": gradio_client.handle_file(path or demo_driver())}


def ask(client: Any, name: str, **choices: Any) -> Any:
    given = {"photo": photo(), "driver": gradio_client.handle_file(demo_driver()), **TINY, **choices}
    return client.predict(**given, api_name=f"/{name}")


def test_a_photograph_is_animated_over_http(client: Any) -> None:
    result, note, _ = ask(client, "animate")
    path = Path(result["video"] if isinstance(result, dict) else result)
    assert [frame.image.shape for frame in VideoReader(path)] == [(96, 96, 3)] * 5
    assert path.name == "eileen_driver.mp4" and note == "5 frames."


def test_choices_reach_the_pipeline(client: Any) -> None:
    result = ask(client, "preview", background="color", color="#ff0000")
    image = read_image(result["value"] if isinstance(result, dict) else result)
    assert image.shape == (64, 64, 3)
    result, *_ = ask(client, "animate", background="transparent")
    assert Path(result["video"] if isinstance(result, dict) else result).suffix == ".webm"


def test_errors_are_the_projects_own_with_their_fix_and_without_paths(client: Any, tmp_path: Path) -> None:
    text, empty = tmp_path / "notes.mp4", tmp_path / "empty.mp4"
    text.write_text("No video at all.\n" * 50)
    empty.touch()
    cases = {
        r"The video: expected an image or a video.*\n\nGive a JPEG": {"driver": text},
        r"The video: the file is empty": {"driver": empty},
        r"The video: expected a video, got a picture": {"driver": page.example_photos()[1]},
        r"The photograph: expected an image or a video": {"photo": text},
        r"yaw: expected a value from -90 to 90": {"yaw": 200},
        r"Expected at least 3 faces in the photograph, found 1": {"face": 3},
    }
    for message, choices in cases.items():
        files = {name: gradio_client.handle_file(v) if isinstance(v, Path) else v for name, v in choices.items()}
        with pytest.raises(gradio_client.exceptions.AppError, match=r"(?s)" + message) as caught:
            ask(client, "animate", **files)
        assert "/" not in str(caught.value) and "Traceback" not in str(caught.value)


def test_nothing_on_the_page_comes_from_elsewhere(address: str) -> None:
    answer = httpx.get(address, timeout=30)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "http" not in answer.headers["content-security-policy"]
    for forbidden in ('src="http', "src='http", "url(http", "fonts.googleapis", "cdn"):
        assert forbidden not in answer.text


def test_files_that_were_not_uploaded_are_not_given(address: str, client: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(page.example_photos()[1].read_bytes())
    assert httpx.get(f"{address}/gradio_api/file={secret}").status_code in (403, 404)
    stolen = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    answer = httpx.post(f"{address}/gradio_api/call/preview", json={"data": [stolen, stolen] + [None] * 17})
    assert answer.status_code == 400 and "uploaded to this page" in answer.text
    assert not list(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("secret.jpg"))


def test_large_uploads_are_refused(address: str) -> None:
    large = bytes(1_001_000)
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": ("large.mp4", large)}, timeout=30)
    assert answer.status_code == 413 and "1000000 bytes" in answer.text


def test_without_gradio_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("megaportraits.web.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigError, match="not here: gradio") as caught:
        CliRunner().invoke(program, ["web", "--no-browser"], catch_exceptions=False)
    assert caught.value.fix.endswith('pip install "megaportraits[web]"')
