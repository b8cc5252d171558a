"""The page behind a real server, used by a real client, with the files of the package."""

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
from megaportraits.media import Limits, VideoReader, read_image
from megaportraits.pipeline.demo import demo_driver
from tests.pipeline.conftest import analyzer, echo_avatar
from tests.web.served import served

pytest.importorskip("gradio", reason="the web extra is not installed")
gradio_client = pytest.importorskip("gradio_client")
page = pytest.importorskip("megaportraits.web.page")
UploadLimits = pytest.importorskip("megaportraits.web.uploads").UploadLimits

__all__ = ["analyzer"]
MEDIA = Limits(pixels=4_000_000, frame_pixels=1_000_000, seconds=30, frames=500)
HTTP = httpx.Client(timeout=60)
TINY = {"size": 64, "max_side": 96, "max_seconds": 0.2}


@pytest.fixture(scope="module")
def address(analyzer: FaceAnalyzer) -> Iterator[str]:
    """Where the page is served, with a network whose answers are the driver's own crops."""
    with (
        page.page_app(echo_avatar(analyzer), uploads=UploadLimits(bytes=1_000_000), media=MEDIA) as app,
        served(app) as address,
    ):
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
    answer = HTTP.get(address)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "http" not in answer.headers["content-security-policy"]
    for forbidden in ('src="http', "src='http", "url(http", "fonts.googleapis", "cdn"):
        assert forbidden not in answer.text


def test_files_that_were_not_uploaded_are_not_given(address: str, client: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(page.example_photos()[1].read_bytes())
    assert HTTP.get(f"{address}/gradio_api/file={secret}").status_code in (403, 404)
    stolen = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    answer = call(address, "preview", [stolen, stolen] + [None] * 17)
    assert answer.status_code == 400 and "must be uploaded first" in answer.text
    assert not list(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("secret.jpg"))


def test_addresses_that_the_page_does_not_need_are_not_there(address: str) -> None:
    for path in (
        "openapi.json",
        "docs",
        "runs",
        "monitoring",
        "monitoring/summary",
        "login",
        "gradio_api/openapi.json",
        "gradio_api/runs",
        "gradio_api/dev/reload",
        "gradio_api/deep_link?session_hash=a",
        "gradio_api/vibe-code",
        "gradio_api/custom_component/a/client/b/c",
        "gradio_api/proxy=http://127.0.0.1:1/",
        "gradio_api/run-history/buckets",
        "gradio_api/stream/a/b/1/playlist.m3u8",
        "gradio_api/token",
    ):
        assert HTTP.get(f"{address}/{path}").status_code == 404, path
    for path in ("component_server", "process_recording", "vibe-edit", "call/v2/preview", "login"):
        assert HTTP.post(f"{address}/gradio_api/{path}", json={}).status_code == 404, path


def test_the_page_fetches_no_address_for_a_visitor(address: str) -> None:
    for target in ("http://127.0.0.1:1/a.jpg", "https://example.org/a.jpg", "ftp://example.org/a", "//example.org/a"):
        assert HTTP.get(f"{address}/gradio_api/file={target}").status_code == 403
        file = {"path": target, "meta": {"_type": "gradio.FileData"}}
        answer = call(address, "preview", [file, file] + [None] * 17)
        assert answer.status_code == 400 and "must be uploaded first" in answer.text


def call(address: str, name: str, data: Any, **more: Any) -> httpx.Response:
    return HTTP.post(f"{address}/gradio_api/call/{name}", json={"data": data, **more})


def test_foreign_pages_and_names_get_nothing(address: str) -> None:
    host = address.removeprefix("http://")
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        for method, path in (("GET", ""), ("GET", "config"), ("POST", "gradio_api/upload"), ("OPTIONS", "config")):
            answer = HTTP.request(method, f"{address}/{path}", headers=headers)
            assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
    own = HTTP.get(f"{address}/config", headers={"Origin": f"http://{host}"})
    assert own.status_code == 200 and own.headers["x-content-type-options"] == "nosniff"
    assert not [name for name in own.headers if name.startswith("access-control")]


def test_paths_lead_nowhere_else(address: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden words")
    up = "../" * 20
    away = f"{up.rstrip('/')}{secret}"
    for place in ("gradio_api/file=", "static/", "assets/", "svelte/", "gradio_api/file=/static/"):
        for path in (away, away.replace("/", "%2f"), away.replace("..", "%2e%2e"), str(secret), f"a\0{secret}", "C:/"):
            url = httpx.URL(address).copy_with(raw_path=f"/{place}{path}".replace("\0", "%00").encode())
            answer = HTTP.get(url)
            assert answer.status_code in (400, 403, 404) and "hidden words" not in answer.text, (place, path)
    files = {"files": (away, b"uploaded", "video/mp4")}
    answer = HTTP.post(f"{address}/gradio_api/upload", files=files)
    (path,) = answer.json()
    assert Path(path).resolve().is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve())
    assert secret.read_text() == "hidden words"


def test_calls_that_make_no_sense_are_reported_and_leave_no_traceback(address: str, capfd: Any) -> None:
    two, rest = [None, None], [None] * 17
    joined = {"session_hash": "a", "fn_index": 0}
    bodies: dict[str, list[Any]] = {
        "call/preview": [
            b"",
            b"{",
            b"[" * 5000,
            b"\xff",
            [],
            {},
            {"data": "text"},
            {"data": []},
            {"data": two},
            {"data": [None] * 40},
            {"data": [[]] * 19},
            {"data": ["x" * 5000, None, *rest]},
            {"data": [{"path": None}, None, *rest]},
            {"data": [{"path": "a\0b"}, None, *rest]},
            {"data": [{"video": {"path": "/etc/passwd"}}, None, *rest]},
            {"data": [*two, *rest], "session_hash": "../../a"},
            {"data": [*two, *rest], "session_hash": 7},
        ],
        "queue/join": [
            {"data": []},
            {"data": [], "session_hash": "a"},
            {"data": [], **joined, "fn_index": 99},
            {"data": [], **joined, "fn_index": -1},
            {"data": [], **joined, "fn_index": "0"},
            {"data": [None] * 9, **joined},
        ],
        "run/predict": [{"data": [], **joined, "fn_index": number} for number in range(12)],
        "cancel": [{}, {"session_hash": "a", "fn_index": "b", "event_id": "c"}],
        "reset": [{}, {"event_id": 1}],
    }
    for path, ones in bodies.items():
        for body in ones:
            given = {"content": body} if isinstance(body, bytes) else {"json": body}
            answer = HTTP.post(f"{address}/gradio_api/{path}", **given)
            assert answer.status_code == 400 or (path == "run/predict" and answer.status_code == 200), (path, body)
    assert call(address, "nothing", []).status_code == 404
    for path in ("queue/data", "queue/data?session_hash=unknown", "call/preview/unknown"):
        assert HTTP.get(f"{address}/gradio_api/{path}").status_code == 404
    assert HTTP.get(f"{address}/gradio_api/upload_progress?upload_id=../a").status_code == 400
    told = capfd.readouterr()
    assert "Traceback" not in told.err + told.out and len((told.err + told.out).splitlines()) < 10


def test_every_function_of_the_page_withstands_values_that_no_control_has(address: str, capfd: Any) -> None:
    """Also the page's private ones, which Gradio answers by number."""
    (path,) = HTTP.post(f"{address}/gradio_api/upload", files={"files": ("a.jpg", b"no picture")}).json()
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    odd = [None, -1, 10**30, 1e308, True, "x", "\0", [], {}, {"path": path}, file, file | {"orig_name": 5}]
    events = [None, 5, {}, {"index": 1}, {"index": ["a", 2], "value": None}, {"index": [1, 2], "value": None}]
    functions = HTTP.get(f"{address}/config").json()["dependencies"]
    told = []
    for function in functions:
        if function["api_name"] not in ("animate", "preview", "leave"):
            name = "queue/join" if function["queue"] else "run/predict"
            for number, value in enumerate(odd):
                data = [value] * len(function["inputs"])
                body = {"data": data, "fn_index": function["id"], "session_hash": "odd"}
                body["event_data"] = events[number % len(events)]
                told.append(HTTP.post(f"{address}/gradio_api/{name}", json=body).status_code)
    assert set(told) == {200, 400} and told.count(400) > len(told) / 2
    for number, value in enumerate(odd):
        data = [file, file] + [None] * 17
        data[2 + number] = value
        assert call(address, "preview", data).status_code in (200, 400)
    with HTTP.stream("GET", f"{address}/gradio_api/queue/data?session_hash=odd") as answers:
        assert not any("Traceback" in line for line in answers.iter_lines())
    err, out = capfd.readouterr()
    assert "Traceback" not in err + out


def test_uploads_that_are_none_are_reported_and_leave_nothing_behind(address: str, capfd: Any) -> None:
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    before = sorted(folder.iterdir())
    form = "multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
    for query, kind, body in (
        ("", "text/plain", b"text"),
        ("", "multipart/form-data", part),
        ("", form, b""),
        ("", form, b"no form at all"),
        ("", form, part + b"it never ends"),
        ("", form, b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"),
        ("?upload_id=a", form, b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\na\r\n--x--\r\n'),
        ("", form, b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\na\r\n--x--\r\n'),
        ("", form, b"--x\r\n" + b"A: b\r\n" * 5000),
    ):
        answer = HTTP.post(
            f"{address}/gradio_api/upload{query}", content=body, headers={"Content-Type": kind}, timeout=30
        )
        assert answer.status_code in (400, 413) or answer.json() == [], body
    assert sorted(folder.iterdir()) == before
    told = capfd.readouterr()
    assert "Traceback" not in told.err + told.out


def test_large_uploads_are_refused(address: str) -> None:
    large = bytes(1_001_000)
    answer = HTTP.post(f"{address}/gradio_api/upload", files={"files": ("large.mp4", large)})
    assert answer.status_code == 413 and "1000000 bytes" in answer.text
    several = [("files", (f"{number}.mp4", bytes(400_000))) for number in range(3)]
    assert HTTP.post(f"{address}/gradio_api/upload", files=several).status_code == 413


def test_the_page_says_its_limits(address: str) -> None:
    text = HTTP.get(address).text
    for limit in ("1 MB", "4 megapixels", "30 seconds, 500 frames", "15 minutes"):
        assert limit in text


def test_without_gradio_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("megaportraits.web.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigError, match="gradio, which is not installed") as caught:
        CliRunner().invoke(program, ["web", "--no-browser"], catch_exceptions=False)
    assert caught.value.fix.endswith('pip install "megaportraits[web]"')
