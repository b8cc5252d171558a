"""A port that cannot be opened is reported with the reason, before a model is loaded."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.errors import DataError
from megaportraits.web.hosts import Hosts
from megaportraits.web.serving import listen

pytest.importorskip("uvicorn", reason="the study extra is not installed")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_port_in_use_is_reported_before_the_model_is_loaded(taken: int) -> None:
    pytest.importorskip("gradio", reason="the web extra is not installed")
    with pytest.raises(DataError, match=rf"port {taken} of 127\.0\.0\.1 is in use") as caught:
        CliRunner().invoke(
            app, ["web", "--no-browser", "--weights", "nothing", "--port", str(taken)], catch_exceptions=False
        )
    assert "--port" in caught.value.fix


def test_an_address_of_another_machine_is_reported_with_the_way_to_add_a_name() -> None:
    with pytest.raises(DataError, match=r"192\.0\.2\.1 is not an address of this machine") as caught:
        listen(Hosts.of(["192.0.2.1"]), 0, needs="web")
    assert "--host 127.0.0.1 --host 192.0.2.1" in caught.value.fix


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "demo.example.org is not an address"),
        (PermissionError(errno.EACCES, "Permission denied"), "port 80 may not be opened by this user"),
        (OSError(errno.ENOBUFS, "No buffer space available"), "cannot listen on demo.example.org, port 80: No buffer"),
    ],
)
def test_every_other_reason_is_reported_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: OSError, told: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "create_server", fail)
    with pytest.raises(DataError, match=told) as caught:
        listen(Hosts.of(["demo.example.org"]), 80, needs="web")
    assert "--" in caught.value.fix
