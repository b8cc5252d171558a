"""A web application on an address of this machine, until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from megaportraits.errors import DataError


def serve(app: Any, *, host: str, port: int, ready: Callable[[str], None], needs: str) -> None:
    """Serve an ASGI application until Ctrl-C.

    Args:
        app: the application.
        host: 127.0.0.1 for this machine only, 0.0.0.0 for everybody who reaches it.
        port: 0 takes a free one.
        ready: told the address as soon as browsers may ask for it.
        needs: the extra of this package that brings the server, for the message where it is not installed.

    Raises:
        DataError: the extra is not installed, or the port is taken.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise DataError(
            "the page needs uvicorn", fix=f'Install it with: pip install "megaportraits[{needs}]"'
        ) from error
    listening = _listen(host, port)
    name = _own_address() if host == "0.0.0.0" else {"127.0.0.1": "localhost"}.get(host, host)
    ready(f"http://{name}:{listening.getsockname()[1]}")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
    with listening:
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise DataError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            fix="Choose another --port, or end the program that uses it.",
        ) from error


def _own_address() -> str:
    """The address under which other machines of the network reach this one; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that documents use; only the route to it is asked for
            return str(probe.getsockname()[0])
        except OSError:
            return "localhost"
