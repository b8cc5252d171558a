"""Limit the connections of a web server: uvicorn has no timeout for incomplete requests and no limit on connections.

Description of the attack: Slowloris (R. Hansen, 2009). The protocol class is uvicorn's extension point (`Config.http`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import time
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_SPARE_DESCRIPTORS = 128
"""File descriptors reserved for everything except visitors: weights, libraries, jobs, connections not yet accepted."""
_WANTED_DESCRIPTORS = 2048


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on the open connections of one server.

    Attributes:
        most: connections at once. A new one beyond that replaces the one that has been waiting longest for its request,
            otherwise the one with an incomplete request that has been idle longest. If all requests are complete, the
            new connection is refused (503).
        per_address: connections of one network address at once; does not apply to this machine, where a proxy can run.
        request_seconds: until the headers of a request are complete, from the start of the connection or the end of the
            last response.
        write_seconds: for which a response may stall.
    """

    most: int
    per_address: int
    request_seconds: float = 10.0
    write_seconds: float = 60.0

    @staticmethod
    def of_this_machine() -> ConnectionLimits:
        """Limits for the process's file descriptors, two for each connection; raises their soft limit first."""
        most = max(16, min(512, (_descriptors() - _SPARE_DESCRIPTORS) // 2))
        return ConnectionLimits(most, max(8, most // 2))


class LimitedConnection(H11Protocol):  # type: ignore[misc]
    """A connection that times out without a complete request, and can be replaced while it waits for one."""

    def __init__(self, *args: Any, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self.waiting_since = self.heard = self.loop.time()

    @property
    def waiting(self) -> bool:
        """Whether no request is being processed."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Register the connection; see `ConnectionLimits.most`."""
        super().connection_made(transport)
        others = [one for one in self.connections if one is not self and isinstance(one, LimitedConnection)]
        crowded = len(others) >= self._limits.most
        mine = self.client[0] if self.client else ""
        if not _is_loopback(mine):
            of_address = [one for one in others if one.client and one.client[0] == mine]
            if len(of_address) >= self._limits.per_address:
                crowded, others = True, of_address
        if crowded:
            idle = [one for one in others if one.waiting]
            half = [one for one in others if not one.waiting and one.cycle.more_body]
            if idle:
                min(idle, key=lambda one: one.waiting_since).give_up()
            elif half:
                min(half, key=lambda one: one.heard).give_up()
            else:
                transport.write(_BUSY)
                transport.close()
                return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Process data; complete headers stop the timeout."""
        self.heard = self.loop.time()
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Start the timeout of the next request."""
        super().on_response_complete()
        self._stop_watching()
        self._watch()

    def shutdown(self) -> None:
        """The server shuts down: close endless responses, such as the heartbeat of an open page, at once."""
        super().shutdown()
        if not self.waiting and self.cycle.response_started:
            self.transport.close()

    def pause_writing(self) -> None:
        """The visitor does not read."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._limits.write_seconds, self.give_up)

    def resume_writing(self) -> None:
        """The visitor reads again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._stop_watching()
        super().connection_lost(exc)
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def give_up(self) -> None:
        """Close at once, without waiting for pending writes."""
        self._stop_watching()
        if self.transport is not None:
            self.connections.discard(self)
            self.transport.abort()

    def _watch(self) -> None:
        if not self.waiting:
            self._stop_watching()
        elif self._deadline is None and not self.transport.is_closing():
            self.waiting_since = self.loop.time()
            self._deadline = self.loop.call_later(self._limits.request_seconds, self.give_up)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class FewOfAKind(logging.Filter):
    """Rate-limits log records of one kind per minute, and later logs how many were dropped.

    Messages that visitors can trigger repeatedly must not fill a disk. A kind is a logger and a message format string.
    """

    def __init__(self, most: int = 5, seconds: float = 60.0) -> None:
        super().__init__()
        self._most, self._seconds = most, seconds
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        kind, now = (record.name, str(record.msg)[:200]), time.monotonic()
        began, count = self._seen.get(kind, (now, 0))
        if now - began > self._seconds:
            if count > self._most:
                record.msg = f"{record.getMessage()} ({count - self._most} more like this were dropped)"
                record.args = None
            began, count = now, 0
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[kind] = (began, count + 1)
        return count < self._most


def _descriptors() -> int:
    """The number of files that the process may have open, after raising the limit."""
    try:
        import resource
    except ImportError:  # Windows
        return _WANTED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_WANTED_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return _WANTED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return True
