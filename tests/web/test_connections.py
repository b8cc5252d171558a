"""Attacks on a local server: connections that send no request or read no answer."""

from __future__ import annotations

import asyncio
import logging
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import httpx
import pytest

from tests.web.served import served

pytest.importorskip("uvicorn", reason="the study extra is not installed")
connections = pytest.importorskip("megaportraits.web.connections")
PATIENCE = 30.0
FOR_EVER = 3600.0


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once; at `/hold` never to the end; at `/flood` with more than anybody takes."""
    if scope["type"] != "http":
        return
    while scope["method"] == "POST":
        message = await receive()
        if message["type"] == "http.disconnect" or not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/hold":
        await send({"type": "http.response.body", "body": b"held", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    elif scope["path"] == "/flood":
        ended = asyncio.ensure_future(_until_left(receive))
        while not ended.done():
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            await asyncio.sleep(0)
        FLOOD_ENDED.set()
    await send({"type": "http.response.body", "body": b"done"})


async def _until_left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


FLOOD_ENDED = threading.Event()


def limits(**changed: Any) -> Any:
    return connections.ConnectionLimits(**{"most": 8, "per_address": 8, "request_seconds": FOR_EVER, **changed})


@contextmanager
def opened(address: str, count: int, text: bytes) -> Iterator[list[socket.socket]]:
    """Connections that sent a text."""
    port = int(address.rpartition(":")[2])
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), PATIENCE)))
            one.sendall(text)
            found.append(one)
        yield found


@pytest.mark.parametrize(
    "text", [b"", b"GET / HTTP/1.1\r\nHost: local", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_half_open_connections_give_way_to_requests(text: bytes) -> None:
    with served(app, limits()) as address, opened(address, 60, text) as attack:
        for _ in range(5):
            assert httpx.get(address, timeout=PATIENCE).text == "done"
        with selectors.DefaultSelector() as waiting:
            for one in attack:
                waiting.register(one, selectors.EVENT_READ)
            for _ in range(60 - limits().most):  # which ones depends on the order in which the server hears them
                (key, _), *_ = waiting.select(PATIENCE) or pytest.fail("too many connections stay open")
                waiting.unregister(key.fileobj)
                assert closed(key.fileobj)


def closed(one: socket.socket) -> bool:
    """Whether the server ends a connection, sooner or later, without an answer."""
    try:
        return one.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("text", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_requests_that_never_arrive_end_their_connection(text: bytes) -> None:
    with served(app, limits(request_seconds=0.2)) as address, opened(address, 3, text) as attack:
        assert all(map(closed, attack))


def test_a_request_that_trickles_in_gets_no_more_time() -> None:
    with served(app, limits(request_seconds=0.5)) as address, opened(address, 1, b"GET / HTTP/1.1\r\n") as (one,):
        one.settimeout(0.05)
        for _ in range(600):
            try:
                one.sendall(b"X")
                if one.recv(100) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
        pytest.fail("the connection is still open")


def test_after_an_answer_the_next_request_has_a_deadline_too() -> None:
    text = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT"
    with served(app, limits(request_seconds=0.2)) as address, opened(address, 1, text) as (one,):
        answer = b""
        while part := one.recv(1000):
            answer += part
        assert answer.count(b"HTTP/1.1 200") == 1


def test_where_every_connection_is_at_work_a_new_one_is_reported_and_the_others_go_on() -> None:
    ask = b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(app, limits(most=3)) as address, opened(address, 3, ask) as held:
        for one in held:
            assert b"200" in one.recv(1000)
        assert httpx.get(address, timeout=PATIENCE).status_code == 503
        held[0].close()
        for _ in range(100):
            if httpx.get(address, timeout=PATIENCE).status_code == 200:
                return
        pytest.fail("a place that became free is not given")


def test_who_takes_nothing_of_an_answer_is_left() -> None:
    FLOOD_ENDED.clear()
    ask = b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(app, limits(write_seconds=0.2)) as address, opened(address, 1, ask):
        assert FLOOD_ENDED.wait(PATIENCE)


def test_a_server_that_ends_waits_for_no_open_page_and_complains_of_none(caplog: pytest.LogCaptureFixture) -> None:
    ask = b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n"
    logger = logging.getLogger("uvicorn.error")
    with ExitStack() as stack:
        with served(app, limits()) as address:
            logger.addHandler(caplog.handler)
            for one in stack.enter_context(opened(address, 2, ask)):
                assert b"200" in one.recv(1000)
        logger.removeHandler(caplog.handler)
    assert not caplog.records


def test_one_address_of_the_network_gets_its_share_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_is_loopback", lambda address: False)
    ask = b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(app, limits(per_address=2)) as address, opened(address, 2, ask) as held:
        for one in held:
            assert b"200" in one.recv(1000)
        assert httpx.get(address, timeout=PATIENCE).status_code == 503


def test_records_of_one_kind_are_few_and_counted(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    now = [0.0]
    monkeypatch.setattr(connections.time, "monotonic", lambda: now[0])
    logger = logging.getLogger("test_few_of_a_kind")
    few = connections.FewOfAKind(most=3, seconds=60)
    logger.addFilter(few)
    for number in range(1000):
        logger.warning("request %d was nonsense", number)
    logger.warning("something else")
    now[0] = 61
    logger.warning("request %d was nonsense", 1000)
    logger.removeFilter(few)
    kept = [record.getMessage() for record in caplog.records]
    assert kept[:3] == [f"request {number} was nonsense" for number in range(3)]
    assert kept[3:] == ["something else", "request 1000 was nonsense (997 more like this were dropped)"]


def test_the_servers_own_loggers_are_filtered_once() -> None:
    from megaportraits.web.serving import make_server

    for _ in range(2):
        make_server(app)
    for name in ("uvicorn.error", "asyncio", "megaportraits.web"):
        filters = logging.getLogger(name).filters
        assert sum(isinstance(one, connections.FewOfAKind) for one in filters) == 1


def test_connections_fit_the_files_that_a_process_may_open() -> None:
    pytest.importorskip("resource")
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 256))\n"
        "from megaportraits.web.connections import ConnectionLimits\n"
        "print(ConnectionLimits.of_this_machine().most, resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["64", "256"]
