"""Middleware of both web applications: checks host, path, size and duration of requests, and hides errors."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from megaportraits.web.hosts import Hosts

LOG = logging.getLogger("megaportraits.web")
SECONDS = 20.0
"""Seconds within which the body of an ordinary request has to arrive."""
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class Refused(Exception):
    """A refused request; raised by the checks of a `Rule`.

    Args:
        status: of HTTP.
        reason: one sentence for the visitor.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(reason)


@dataclass(frozen=True)
class Rule:
    """Limits for requests to some paths.

    Attributes:
        path: matches the whole path.
        methods: of HTTP.
        body_bytes: longest body.
        check: called with the path's match, the query and the body; raises `Refused` if they are invalid.
        upload: None: the whole body is read before the application receives the request, and a response of 400 says
            what is wrong with it. Otherwise the body is streamed within the context that this function returns for its
            length; the function raises `Refused` if there is no space.
        body_seconds: until the body is complete.
        idle_seconds: longest pause between two parts of the body.
        bytes_per_second: minimum average rate of the body after the first `idle_seconds`.
        at_once: simultaneous requests, for long responses.
    """

    path: re.Pattern[str]
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    body_bytes: int = 0
    check: Callable[[re.Match[str], str, bytes], object] | None = None
    upload: Callable[[int], AbstractContextManager[None]] | None = None
    body_seconds: float = SECONDS
    idle_seconds: float = SECONDS
    bytes_per_second: float = 10_000.0
    at_once: int | None = None


@dataclass
class Guard:
    """ASGI middleware: checks requests by `Hosts` and `Rule`s, adds security headers, and turns exceptions into
    responses.

    A path without a rule is 404. An exception of the application is one line in the log, without a traceback, and is
    not shown to the visitor.

    Args:
        app: the application.
        hosts: accepted host names.
        rules: the first one that matches a path applies.
        policy: the Content-Security-Policy of every response.
    """

    app: ASGIApp
    hosts: Hosts
    rules: Sequence[Rule]
    policy: str
    _added: list[tuple[bytes, bytes]] = field(init=False)
    _open: Counter[re.Pattern[str]] = field(init=False, default_factory=Counter)

    def __post_init__(self) -> None:
        self._added = [(b"content-security-policy", self.policy.encode("ascii")), *_HEADERS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Response(send, self._added)
        try:
            rule, match = self._rule(scope)
            if rule.at_once is not None and self._open[rule.path] >= rule.at_once:
                raise Refused(503, "The server is busy. Try again in a minute.")
            self._open[rule.path] += 1
            try:
                await self._serve(rule, match, scope, receive, answer)
            finally:
                self._open[rule.path] -= 1
        except Refused as error:
            await answer.replace(scope, error.status, error.reason)
        except ClientDisconnect:
            pass
        except HTTPException as error:
            await answer.replace(scope, error.status_code, str(error.detail))
        except Exception as error:
            LOG.error("%s %s failed: %s", scope["method"], _printable(scope["path"]), _printable(repr(error)))
            await answer.replace(scope, 500, "The server could not process this request.")

    def _rule(self, scope: Scope) -> tuple[Rule, re.Match[str]]:
        """The rule for a request."""
        reason = self.hosts.refusal(scope["method"], Headers(scope=scope))
        if reason is not None:
            raise Refused(403, reason)
        matches = ((rule, rule.path.fullmatch(scope["path"])) for rule in self.rules)
        found = [(rule, match) for rule, match in matches if match is not None]
        if not found:
            raise Refused(404, "Not found.")
        for rule, match in found:
            if scope["method"] in rule.methods:
                return rule, match
        raise Refused(405, f"Expected {' or '.join(sorted(found[0][0].methods))}, got {scope['method']}.")

    async def _serve(self, rule: Rule, match: re.Match[str], scope: Scope, receive: Receive, answer: _Response) -> None:
        body = _Body(receive, rule, Headers(scope=scope))
        if rule.upload is None:
            whole = await body.read()
            if rule.check is not None:
                rule.check(match, scope["query_string"].decode("latin-1"), whole)
            await self.app(scope, body.again(whole), answer.send)
            return
        with rule.upload(body.length()):
            answer.held = []
            try:
                await self.app(scope, body.receive, answer.send)
            except (Refused, HTTPException):
                raise
            except OSError as error:
                LOG.error("an upload cannot be stored: %s", error)
                raise Refused(507, "The upload cannot be stored now.") from error
            except Exception as error:
                if body.late:
                    raise Refused(
                        408,
                        f"The upload took longer than {rule.body_seconds:g} seconds, or was slower than "
                        f"{rule.bytes_per_second / 1000:g} kB a second.",
                    ) from error
                raise Refused(400, "Invalid upload: expected multipart/form-data.") from error
            await answer.release()


class _Body:
    """A request's body within its limits."""

    def __init__(self, receive: Receive, rule: Rule, headers: Headers) -> None:
        self._receive, self._rule, self._headers = receive, rule, headers
        self._began, self._size = asyncio.get_running_loop().time(), 0
        self.late = False

    def length(self) -> int:
        """The declared length; raises `Refused` if it is missing or too large."""
        text = self._headers.get("content-length")
        if text is None or not text.isascii() or not text.isdigit():
            raise Refused(411, "Expected the length of the upload, got none.")
        if len(text) > 18 or int(text) > self._rule.body_bytes:
            raise Refused(413, f"Expected at most {self._rule.body_bytes} bytes, got {text[:20]} bytes.")
        return int(text)

    async def receive(self) -> Message:
        """The next part; a timeout is treated as a disconnect."""
        rule = self._rule
        may_take = min(rule.body_seconds, rule.idle_seconds + self._size / rule.bytes_per_second)
        left = self._began + may_take - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), min(rule.idle_seconds, left))
        except TimeoutError:
            self.late = True
            return {"type": "http.disconnect"}
        self._size += len(message.get("body", b""))
        return message

    async def read(self) -> bytes:
        """The whole body."""
        most, parts, size = self._rule.body_bytes, [], 0
        if not most and not ({"content-length", "transfer-encoding"} & set(self._headers.keys())):
            return b""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                if self.late:
                    raise Refused(408, f"The request took longer than {self._rule.body_seconds:g} seconds.")
                raise ClientDisconnect
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise Refused(400, f"Expected a body of at most {most} bytes, got more.")
            if not message.get("more_body", False):
                return b"".join(parts)

    def again(self, whole: bytes) -> Receive:
        """Messages for the application: the body in one part, then later messages."""
        given = False

        async def receive() -> Message:
            nonlocal given
            if given:
                return await self._receive()
            given = True
            return {"type": "http.request", "body": whole, "more_body": False}

        return receive


class _Response:
    """A response, with the headers that every response has.

    Attributes:
        held: buffered messages; None: messages are sent at once.
    """

    def __init__(self, send: Send, added: list[tuple[bytes, bytes]]) -> None:
        self._send, self._added, self._started = send, added, False
        self.held: list[Message] | None = None

    async def send(self, message: Message) -> None:
        """In place of the server's own."""
        if self.held is not None:
            self.held.append(message)
            return
        if message["type"] == "http.response.start":
            self._started = True
            names = {name for name, _ in self._added}
            kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in names]
            message = {**message, "headers": [*kept, *self._added]}
        await self._send(message)

    async def release(self) -> None:
        """Send buffered messages."""
        held, self.held = self.held or [], None
        for message in held:
            await self.send(message)

    async def replace(self, scope: Scope, status: int, reason: str) -> None:
        """Send this instead of the buffered messages; a response that has already started is left unfinished."""
        self.held = None
        if not self._started:
            await PlainTextResponse(reason, status)(scope, _nothing, self.send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def paths(*patterns: str) -> re.Pattern[str]:
    """A pattern that matches if one of these does."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.DOTALL)
