"""An application behind a real server, for tests over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from megaportraits.web.serving import make_server


@contextmanager
def served(app: Any, limits: Any = None) -> Iterator[str]:
    """The address of an ASGI application, which is served until the block ends."""
    pytest.importorskip("uvicorn")
    server = make_server(app, limits, port=0, timeout_graceful_shutdown=1)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
