"""A web application on an address of this machine, until Ctrl-C."""

from __future__ import annotations

import functools
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from megaportraits.errors import DataError
from megaportraits.extras import require
from megaportraits.web.hosts import Hosts

if TYPE_CHECKING:
    from megaportraits.web.connections import ConnectionLimits

_BACKLOG = 64
_LOGGERS = ("uvicorn.error", "asyncio", "megaportraits.web", "python_multipart.multipart")
"""Those to which a visitor's request can write."""


def serve(app: Any, *, hosts: Hosts, port: int, ready: Callable[[str], None], needs: str) -> None:
    """Serve an ASGI application until Ctrl-C.

    Args:
        app: the application.
        hosts: names where to listen; the application itself checks which ones it answers to.
        port: 0 takes a free one.
        ready: told the address as soon as browsers may ask for it.
        needs: the extra of this package that brings the server, for the message where it is not installed.

    Raises:
        MissingPackageError: the extra is not installed.
        DataError: the port is taken.
    """
    require(needs, "The page", "uvicorn")
    listening = _listen(hosts.listen, port)
    ready(f"http://{_shown(hosts.listen)}:{listening.getsockname()[1]}")
    with listening:
        make_server(app).run(sockets=[listening])


def make_server(app: Any, limits: ConnectionLimits | None = None, **settings: Any) -> Any:
    """A uvicorn server with limits on connections, and a log that visitors cannot fill.

    Args:
        app: the ASGI application.
        limits: of connections; None for what this machine allows.
        settings: of `uvicorn.Config`, beside those that are chosen here.
    """
    import uvicorn

    from megaportraits.web.connections import ConnectionLimits, FewOfAKind, LimitedConnection

    chosen = {
        "http": functools.partial(LimitedConnection, limits=limits or ConnectionLimits.of_this_machine()),
        "ws": "none",
        "backlog": _BACKLOG,
        "access_log": False,
        "log_level": "warning",
        "server_header": False,
        "timeout_graceful_shutdown": 3,
    }
    config = uvicorn.Config(app, **{**chosen, **settings})
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, FewOfAKind) for one in logger.filters):
            logger.addFilter(FewOfAKind())
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
            fix="Choose another --port, or end the program that uses it. A name that only a proxy has is given beside "
            "the address to listen on: --host 127.0.0.1 --host NAME.",
        ) from error


def _shown(host: str) -> str:
    """What a browser on this machine or in its network may ask for."""
    if host in ("0.0.0.0", "::"):
        return _own_address()
    return {"127.0.0.1": "localhost", "::1": "localhost"}.get(host, f"[{host}]" if ":" in host else host)


def _own_address() -> str:
    """The address under which other machines of the network reach this one; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that documents use; only the route to it is asked for
            return str(probe.getsockname()[0])
        except OSError:
            return "localhost"
