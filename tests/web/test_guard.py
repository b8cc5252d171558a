"""Requests that the guard of both web applications lets through, and its answers to all others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

starlette = pytest.importorskip("starlette", reason="the study extra is not installed")

from starlette.applications import Starlette  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import JSONResponse, PlainTextResponse, Response  # noqa: E402
from starlette.routing import Route  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from megaportraits.web.guard import Guard, Refused, Rule, paths  # noqa: E402
from megaportraits.web.hosts import Hosts  # noqa: E402

POST = frozenset({"POST"})


async def echo(request: Request) -> Response:
    return JSONResponse({"got": len(await request.body())}, headers={"X-Content-Type-Options": "sniff"})


async def fails(request: Request) -> Response:
    raise KeyError("a secret of the inside")


def app(*rules: Rule) -> Guard:
    routes = [
        Route("/", lambda request: PlainTextResponse("the page itself")),
        Route("/echo", echo, methods=["POST"]),
        Route("/fails", fails, methods=["GET", "POST"]),
        Route("/hidden", lambda request: PlainTextResponse("hidden")),
    ]
    rules = rules or (Rule(paths("/", "/fails")), Rule(paths("/echo"), POST, 10))
    return Guard(Starlette(routes=routes), Hosts.of(), rules, "default-src 'self'")


def client(*rules: Rule) -> TestClient:
    return TestClient(app(*rules), base_url="http://localhost", raise_server_exceptions=True)


def test_every_answer_has_the_headers_once_and_none_names_the_inside() -> None:
    asks = client()
    answers = [
        asks.get("/"),
        asks.get("/nothing"),
        asks.get("/fails"),
        asks.post("/"),
        asks.post("/echo", content=b"1234"),
        asks.get("/", headers={"Host": "evil.example"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 500, 405, 200, 403]
    for answer in answers:
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
        assert answer.headers["content-security-policy"] == "default-src 'self'"
        assert "secret" not in answer.text and "Traceback" not in answer.text


def test_foreign_pages_get_neither_answers_nor_permission() -> None:
    for method in ("GET", "POST", "OPTIONS"):
        headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answer = client().request(method, "/", headers=headers)
        assert answer.status_code == 403 and "itself" not in answer.text
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_what_no_rule_names_is_not_there() -> None:
    assert client().get("/hidden").status_code == 404
    assert client(Rule(paths("/hidden"))).get("/hidden").text == "hidden"
    assert client(Rule(paths("/hidden"))).get("/hidden/../").status_code == 404


def test_an_error_is_one_line_in_the_log_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client().get("/fails")
    (record,) = [record for record in caplog.records if record.name == "megaportraits.web"]
    assert record.getMessage() == "GET /fails failed: KeyError('a secret of the inside')" and record.exc_info is None


def test_bodies_are_as_long_as_the_rule_says() -> None:
    asks = client()
    assert asks.post("/echo", content=b"x" * 10).json() == {"got": 10}
    assert asks.post("/echo", content=b"x" * 11).status_code == 400
    assert asks.post("/echo", content=iter([b"x" * 6] * 2)).status_code == 400  # in chunks, without a length
    assert asks.request("GET", "/", content=b"x").status_code == 400


def test_a_rules_check_sees_path_query_and_body_before_the_application() -> None:
    seen = []

    def check(match: Any, query: str, body: bytes) -> None:
        seen.append((match["name"], query, body))
        if body != b"good":
            raise Refused(400, "Expected good.")

    import re

    asks = client(Rule(re.compile("/(?P<name>echo)"), POST, 10, check))
    assert asks.post("/echo?a=1", content=b"good").json() == {"got": 4}
    answer = asks.post("/echo?a=2", content=b"bad")
    assert (answer.status_code, answer.text) == (400, "Expected good.")
    assert seen == [("echo", "a=1", b"good"), ("echo", "a=2", b"bad")]


def test_uploads_have_a_place_while_they_last_and_their_failures_are_the_visitors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = []

    @contextmanager
    def place(length: int) -> Iterator[None]:
        held.append(length)
        try:
            yield
        finally:
            held.append(-length)

    asks = client(Rule(paths("/echo", "/fails"), POST, 100, upload=place))
    assert asks.post("/echo", content=b"x" * 100).json() == {"got": 100}
    answer = asks.post("/fails", content=b"y" * 7)
    assert answer.status_code == 400 and "multipart/form-data" in answer.text
    assert held == [100, -100, 7, -7]
    assert asks.post("/echo", content=b"x" * 101).status_code == 413
    assert asks.post("/echo", content=iter([b"x"])).status_code == 411
    assert len(held) == 4 and not caplog.records


def test_answers_that_last_are_so_many_at_once() -> None:
    guard = app(Rule(paths("/"), at_once=2))
    asks = TestClient(guard, base_url="http://localhost")
    pattern = guard.rules[0].path
    guard._open[pattern] = 2
    assert asks.get("/").status_code == 503
    guard._open[pattern] = 1
    assert [asks.get("/").status_code for _ in range(3)] == [200] * 3  # a place is given back
    assert guard._open[pattern] == 1


@pytest.mark.parametrize("upload", [False, True])
@pytest.mark.parametrize("trickles", [False, True])
def test_bodies_that_do_not_come_or_trickle_end(upload: bool, trickles: bool) -> None:
    """The guard is asked as a server would ask it."""
    import anyio

    @contextmanager
    def place(length: int) -> Iterator[None]:
        yield

    sent: list[Any] = []
    parts = 0

    async def ask() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            nonlocal parts
            parts += 1
            if trickles:
                await anyio.sleep(0.01)
            elif parts > 1:
                await anyio.sleep_forever()
            return {"type": "http.request", "body": b"x", "more_body": True}

        headers = [(b"host", b"localhost"), (b"content-length", b"1000000")]
        scope = {"type": "http", "method": "POST", "path": "/echo", "query_string": b"", "headers": headers}
        rule = Rule(paths("/echo"), POST, 1_000_000, upload=place if upload else None, idle_seconds=0.2)
        with anyio.fail_after(20):
            await app(rule)(scope | {"root_path": "", "http_version": "1.1"}, receive, send)

    anyio.run(ask)
    assert sent[0]["status"] == 408 and parts < 1000
