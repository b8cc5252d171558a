"""The user study as a web page: one page, three addresses for it, and the media under names that tell nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megaportraits.errors import DataError
from megaportraits.evaluation.study.plan import KINDS, Question, Study
from megaportraits.evaluation.study.votes import CHOICES, Ballot, State
from megaportraits.web.serving import serve

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

COOKIE = "voter"
_A_YEAR = 365 * 24 * 3600
_BODY_BYTES = 2000
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def study_app(folder: Path) -> Starlette:
    """The web application of a study folder; an ASGI app, for any server.

    - `GET /` is the page; `/?invite=CODE` where the study has invitations.
    - `GET /api/state` gives progress, the open question and files to load ahead; it makes a voter on the first call.
    - `POST /api/vote` with `question`, `choice` ("left", "right", "broken") and `seconds` gives the next state; an
      answer to another question than the open one is not taken (409), so that double taps and second tabs are harmless.
    - `GET /media/NAME` gives a picture or a video, in ranges, as phones want it.

    Raises:
        DataError: the folder holds no study, or the `study` extra is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.routing import Mount, Route
        from starlette.staticfiles import StaticFiles
    except ImportError as error:
        raise DataError(
            f"the study's page needs a package that is not here: {error.name}",
            fix='Install it with: pip install "megaportraits[study]"',
        ) from error
    study = Study.read(folder)
    server = StudyServer(study, Ballot(folder, study))
    return Starlette(
        routes=[
            Route("/", server.page),
            Route("/api/state", server.state),
            Route("/api/vote", server.vote, methods=["POST"]),
            Mount("/media", StaticFiles(directory=folder / "media")),
        ],
    )


class StudyServer:
    """The page's three addresses."""

    def __init__(self, study: Study, ballot: Ballot) -> None:
        self.ballot, self.questions = ballot, study.by_id()
        self.html = (resources.files("megaportraits.web") / "static" / "study.html").read_text(encoding="utf-8")

    async def page(self, request: Request) -> Response:
        """The page; it asks for everything else."""
        from starlette.responses import HTMLResponse

        return HTMLResponse(self.html, headers=_HEADERS)

    async def state(self, request: Request) -> Response:
        """Where the voter is; a browser that is nobody yet becomes one."""
        from starlette.concurrency import run_in_threadpool

        token = request.cookies.get(COOKIE)
        state = None if token is None else await run_in_threadpool(self.ballot.state, token)
        if state is None:
            address = request.client.host if request.client else ""
            token = await run_in_threadpool(self.ballot.register, address, request.query_params.get("invite"))
            if token is None:
                return _json({"error": "invite"}, 403)
            state = await run_in_threadpool(self.ballot.state, token)
        assert state is not None and token is not None
        response = _json(self._describe(state))
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, max_age=_A_YEAR, httponly=True, samesite="lax", secure=secure)
        return response

    async def vote(self, request: Request) -> Response:
        """An answer in, the next question out."""
        from starlette.concurrency import run_in_threadpool

        token = request.cookies.get(COOKIE)
        answer = await _answer(request)
        if answer is None:
            return _json({"error": "answer"}, 400)
        state = None if token is None else await run_in_threadpool(self.ballot.state, token)
        if token is None or state is None:
            return _json({"error": "voter"}, 403)
        taken = await run_in_threadpool(self.ballot.vote, token, *answer)
        state = await run_in_threadpool(self.ballot.state, token)
        assert state is not None
        return _json(self._describe(state), 200 if taken else 409)

    def _describe(self, state: State) -> dict[str, Any]:
        open_, ahead = [self.questions[q] for q in state.upcoming[:1]], [self.questions[q] for q in state.upcoming[1:2]]
        return {
            "done": state.done,
            "total": state.total,
            "question": _public(open_[0]) if open_ else None,
            "ahead": [f"media/{name}" for q in ahead for name in (q.reference, q.left, q.right)],
        }


def _public(question: Question) -> dict[str, str]:
    """What a voter may know of a question: neither methods nor whether it is a gold one."""
    files = {"reference": question.reference, "left": question.left, "right": question.right}
    assert question.triplet.kind in KINDS
    return {
        "id": question.id,
        "kind": question.triplet.kind,
        **{name: f"media/{file}" for name, file in files.items()},
    }


async def _answer(request: Request) -> tuple[str, Any, float] | None:
    """Question, choice and seconds of a request; None when it is not an answer."""
    if int(request.headers.get("content-length") or _BODY_BYTES + 1) > _BODY_BYTES:
        return None
    try:
        body = await request.json()
        question, choice, seconds = body["question"], body["choice"], float(body["seconds"])
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(question, str) or choice not in CHOICES or not math.isfinite(seconds):
        return None
    return question, choice, min(max(seconds, 0.0), 3600.0)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status, headers=_HEADERS)


def serve_study(folder: Path, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve a study until Ctrl-C; `ready` is told the address.

    Raises:
        DataError: no study, no `study` extra, or the port is taken.
    """
    serve(study_app(folder), host=host, port=port, ready=ready, needs="study")
