"""Serve a web application until Ctrl-C."""

from __future__ import annotations

import errno
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
"""Loggers that a visitor's request can trigger."""


def serve(app: Any, listening: socket.socket, *, hosts: Hosts, ready: Callable[[str], None]) -> None:
    """Serve an ASGI application until Ctrl-C.

    Args:
        app: the application.
        listening: from `listen`; closed at the end.
        hosts: where it listens; the application itself checks the host names of requests.
        ready: called with the address as soon as the server accepts requests.
    """
    ready(f"http://{_shown(hosts.listen)}:{listening.getsockname()[1]}")
    with listening:
        make_server(app).run(sockets=[listening])


def make_server(app: Any, limits: ConnectionLimits | None = None, **settings: Any) -> Any:
    """A uvicorn server with limits on connections and a rate-limited log.

    Args:
        app: the ASGI application.
        limits: of connections; None for the maximum of this machine.
        settings: further settings of `uvicorn.Config`.
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


def listen(hosts: Hosts, port: int, *, needs: str) -> socket.socket:
    """Open the port, before slower work such as loading a model.

    Args:
        hosts: where to listen.
        port: 0: any free port.
        needs: the extra of this package that contains the server, for the error message if it is not installed.

    Raises:
        MissingPackageError: the extra is not installed.
        DataError: the port is in use or reserved, or the host is not an address of this machine.
    """
    require(needs, "The page", "uvicorn")
    host = hosts.listen
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise _refused(host, port, error) from error


def _refused(host: str, port: int, error: OSError | UnicodeError) -> DataError:
    """What is wrong with a host or a port, and what to do."""
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return DataError(
            f"port {port} of {host} is in use by another program",
            fix="Choose another --port (0 takes a free one), or stop that program.",
        )
    if number in (errno.EACCES, errno.EPERM):
        return DataError(f"port {port} may not be opened by this user", fix="Choose a --port of 1024 or above.")
    if isinstance(error, socket.gaierror | UnicodeError) or number == errno.EADDRNOTAVAIL:
        return DataError(
            f"{host} is not an address of this machine",
            fix="Listen on an address of it, and give names that visitors use as further values: "
            f"--host 127.0.0.1 --host {host}. --host 0.0.0.0 listens on all addresses.",
        )
    return DataError(
        f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}",
        fix="Choose another --host or --port.",
    )


def _shown(host: str) -> str:
    """The address for a browser on this machine or in its network."""
    if host in ("0.0.0.0", "::"):
        return _own_address()
    return {"127.0.0.1": "localhost", "::1": "localhost"}.get(host, f"[{host}]" if ":" in host else host)


def _own_address() -> str:
    """The network address of this machine; finding it sends no packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address reserved for documentation; only the route to it is looked up
            return str(probe.getsockname()[0])
        except OSError:
            return "localhost"
