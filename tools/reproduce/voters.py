"""Serve a user study with the page's command, and answer it over HTTP like a browser.

A voter chooses the side with the smaller pixel difference from the reference. Gold questions show the reference itself
on one side, so these voters pass the study's check.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import numpy as np

from megaportraits.media import VideoReader, is_video, read_image
from megaportraits.ops.pictures import resize

VOTERS = 2
_SECONDS = 600
"""Timeout of the server's answers and of its end, seconds; long, because the machine may be busy."""
_SIDE = 64


def serve_and_vote(command: Sequence[str], folder: Path, log: Callable[[str], object]) -> None:
    """Run `study serve` until every voter has answered all questions, then stop it with SIGINT.

    Args:
        command: the whole command; its port may be in use, so it is replaced by a free one.
        folder: working directory of the server.
        log: called with the server's output and the number of answers.

    Raises:
        RuntimeError: the server did not start, or refused an answer.
    """
    server = subprocess.Popen(
        [*command, "--port", "0"], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        address = _address(server, log)
        answers = [_vote_through(address) for _ in range(VOTERS)]
        log(f"{len(answers)} voters gave {sum(answers)} answers")
    finally:
        server.send_signal(signal.SIGINT)
        try:
            log(server.communicate(timeout=_SECONDS)[0])
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address(server: subprocess.Popen[str], log: Callable[[str], object]) -> str:
    """The address that the server prints."""
    assert server.stdout is not None
    for line in server.stdout:
        log(line.rstrip())
        if line.startswith("Study at "):
            return line.split()[2].rstrip("/") + "/"
    raise RuntimeError("`study serve` ended before it served the study.")


def _vote_through(address: str) -> int:
    """Answer all questions as one new voter. Returns the number of answers."""
    voter = build_opener(HTTPCookieProcessor(CookieJar()))
    state = _ask(voter, urljoin(address, "api/state"))
    given = 0
    while (question := state["question"]) is not None:
        reference, left, right = (_look(voter, urljoin(address, question[x])) for x in ("reference", "left", "right"))
        choice = "left" if np.abs(left - reference).mean() <= np.abs(right - reference).mean() else "right"
        answer = {"question": question["id"], "choice": choice, "seconds": 2.0}
        state, given = _ask(voter, urljoin(address, "api/vote"), answer), given + 1
    return given


def _ask(voter: OpenerDirector, address: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    with voter.open(Request(address, data=data), timeout=_SECONDS) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def _look(voter: OpenerDirector, address: str) -> Any:
    """The first frame of a file that the page shows, as a small array."""
    with (
        voter.open(address, timeout=_SECONDS) as reply,
        tempfile.NamedTemporaryFile(suffix=Path(address).suffix) as file,
    ):
        file.write(reply.read())
        file.flush()
        path = Path(file.name)
        picture = next(iter(VideoReader(path))).image if is_video(path) else read_image(path)
    return resize(picture, _SIDE).astype(np.float32)
