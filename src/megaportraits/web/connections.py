"""Connections of a web server, limited: uvicorn has no deadline for requests that never arrive, and no last place.

Source of the attack: Slowloris (R. Hansen, 2009). The protocol class is uvicorn's extension point (`Config.http`).
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
"""File descriptors for everything but visitors: weights, libraries, jobs, connections that wait to be accepted."""
_WANTED_DESCRIPTORS = 2048


@dataclass(frozen=True)
class ConnectionLimits:
    """What one server keeps open.

    Attributes:
        most: connections at once. A new one beyond that takes the place of the one that has waited longest for its
            request, else of the one that has been silent longest with half a request; where all have sent theirs, the
            new one is refused (503).
        per_address: connections of one address at once, but for this machine, where a proxy may stand.
        request_seconds: until the headers of a request are complete, from the connection's or last answer's end on.
        write_seconds: for which a visitor may take nothing of an answer.
    """

    most: int
    per_address: int
    request_seconds: float = 10.0
    write_seconds: float = 60.0

    @staticmethod
    def of_this_machine() -> ConnectionLimits:
        """What the process's file descriptors allow, two for each connection; raises their soft limit first."""
        most = max(16, min(512, (_descriptors() - _SPARE_DESCRIPTORS) // 2))
        return ConnectionLimits(most, max(8, most // 2))


class LimitedConnection(H11Protocol):  # type: ignore[misc]
    """A connection that ends when its request does not come, and gives way to others while it waits for one."""

    def __init__(self, *args: Any, limits: ConnectionLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self.waiting_since = self.heard = self.loop.time()

    @property
    def waiting(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take a place; see `ConnectionLimits.most`."""
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
        """Read on; headers that are complete stop their deadline."""
        self.heard = self.loop.time()
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The next request has its own deadline."""
        super().on_response_complete()
        self._stop_watching()
        self._watch()

    def shutdown(self) -> None:
        """The server ends: answers that go on for ever, as those that say whether a page is open, end at once."""
        super().shutdown()
        if not self.waiting and self.cycle.response_started:
            self.transport.close()

    def pause_writing(self) -> None:
        """The visitor takes nothing at the moment."""
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
        """Drop the timers."""
        self._stop_watching()
        super().connection_lost(exc)
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def give_up(self) -> None:
        """Close at once; nothing that is still to be written is waited for."""
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
    """Lets a few log records of one kind through in a minute, and says later how many it left out.

    What visitors can cause again and again must not fill a disk. A kind is a logger and a message before its
    arguments are filled in.
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
                record.msg = f"{record.getMessage()} ({count - self._most} more like this were left out)"
                record.args = None
            began, count = now, 0
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[kind] = (began, count + 1)
        return count < self._most


def _descriptors() -> int:
    """How many files the process may have open, after asking for enough."""
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
