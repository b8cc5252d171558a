"""The user study as a web page: one page, an API with three routes, and media under random-looking names."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from email.utils import formatdate
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from megaportraits.errors import DataError
from megaportraits.evaluation.study.plan import FILE, ROLES, Question, Role, Study
from megaportraits.evaluation.study.votes import Ballot, Choice, VoterState
from megaportraits.extras import optional_dependency
from megaportraits.web.hosts import Hosts
from megaportraits.web.serving import listen, serve

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from megaportraits.web.guard import Guard

COOKIE = "voter"
_A_DAY = 24 * 3600
_A_YEAR = 365 * _A_DAY
_BODY_BYTES = 2000
_LONGEST_ANSWER = 3600.0
_POLICY = (
    "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_NEVER_KEPT = {"Cache-Control": "no-store"}


class _VoteBody(BaseModel, strict=True, extra="forbid"):
    """The body of a vote; `seconds` is what the browser measured."""

    question: Annotated[str, Field(max_length=64)]
    choice: Choice
    seconds: Annotated[float, Field(allow_inf_nan=False)]


def study_app(folder: Path, hosts: Hosts | None = None) -> Guard:
    """The web application of a study folder; an ASGI app, for any server.

    - `GET /` is the page; `/?invite=CODE` if the study has invitations.
    - `GET /api/state` returns progress, the open question and files to preload; the first call creates a voter.
    - `POST /api/vote` with `question`, `choice` ("left", "right", "broken") and `seconds` returns the next state; an
      answer to a question that is not open is refused (409), so that double taps and second tabs have no effect.
    - `GET /media/NAME` returns a picture or a video, with range requests, which phones need.

    Args:
        folder: made by `make_study`.
        hosts: accepted host names; None for this machine only.

    Raises:
        DataError: the folder holds no study.
        MissingPackageError: the `study` extra is not installed.
    """
    with optional_dependency("study", "The study's page"):
        from starlette.applications import Starlette
        from starlette.routing import Route

        from megaportraits.web.guard import Guard, Rule, paths
    study = Study.read(folder)
    server = StudyServer(folder, study, Ballot(folder, study))
    app = Starlette(
        routes=[
            Route("/", server.page),
            Route("/api/state", server.state),
            Route("/api/vote", server.vote, methods=["POST"]),
            Route("/media/{name}", server.medium),
        ],
    )
    rules = [
        Rule(paths("/", "/api/state", r"/media/[0-9a-f]+\.(?:mp4|jpg)")),
        Rule(paths("/api/vote"), frozenset({"POST"}), _BODY_BYTES),
    ]
    return Guard(app, hosts or Hosts.of(), rules, _POLICY)


class StudyServer:
    """The page's routes.

    A question and each of its files have their own URL, derived from the ballot's secret: equal files, as in gold
    questions, have different URLs, and URLs cannot be computed from names and seeds.
    """

    def __init__(self, folder: Path, study: Study, ballot: Ballot) -> None:
        self.ballot, self._secret = ballot, ballot.secret().encode()
        self._changed = formatdate((folder / FILE).stat().st_mtime, usegmt=True)
        self._by_id = study.by_id()
        self._questions = {self._name(question.id): question for question in study.questions}
        self._media = {
            self.address(q, role): folder / "media" / getattr(q, role) for q in study.questions for role in ROLES
        }
        missing = sorted({path.name for path in self._media.values() if not path.is_file()})
        if missing:
            raise DataError(
                f"{folder} lacks {len(missing)} files of its questions in media/, as {missing[0]}.",
                fix="Take them from a backup, or make a new study with `megaportraits study make`.",
            )
        self.html = (resources.files("megaportraits.web") / "static" / "study.html").read_text(encoding="utf-8")

    async def page(self, request: Request) -> Response:
        """The page, which requests everything else."""
        from starlette.responses import HTMLResponse

        return HTMLResponse(self.html, headers=_NEVER_KEPT)

    async def state(self, request: Request) -> Response:
        """The state of the voter; a browser without a cookie becomes a new voter."""
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
        """Store an answer and return the next question."""
        from starlette.concurrency import run_in_threadpool

        token = request.cookies.get(COOKIE)
        try:
            answer = _VoteBody.model_validate_json(await request.body())
        except ValidationError:
            return _json({"error": "answer"}, 400)
        question = self._questions.get(answer.question)
        state = None if token is None else await run_in_threadpool(self.ballot.state, token)
        if token is None or state is None:
            return _json({"error": "voter"}, 403)
        seconds = min(max(answer.seconds, 0.0), _LONGEST_ANSWER)
        taken = question is not None and await run_in_threadpool(
            self.ballot.vote, token, question.id, answer.choice, seconds
        )
        state = await run_in_threadpool(self.ballot.state, token)
        assert state is not None
        return _json(self._describe(state), 200 if taken else 409)

    async def medium(self, request: Request) -> Response:
        """A picture or a video; headers such as times do not reveal which files are equal."""
        from starlette.exceptions import HTTPException
        from starlette.responses import FileResponse

        name = request.path_params["name"]
        path = self._media.get(name)
        if path is None or not path.is_file():
            raise HTTPException(404, "There is no such file.")
        headers = {
            "ETag": f'"{name}"',
            "Last-Modified": self._changed,
            "Cache-Control": f"private, max-age={_A_DAY}",
        }
        return FileResponse(path, headers=headers)

    def _describe(self, state: VoterState) -> dict[str, Any]:
        return {
            "done": state.done,
            "total": state.total,
            "question": self._public(self._by_id[state.upcoming[0]]) if state.upcoming else None,
            "ahead": [f"media/{self.address(self._by_id[id_], role)}" for id_ in state.upcoming[1:2] for role in ROLES],
        }

    def _public(self, question: Question) -> dict[str, str]:
        """The public part of a question: neither its methods nor whether it is a gold question."""
        told = {"id": self._name(question.id), "kind": str(question.triplet.kind)}
        for role in ROLES:
            told[role] = f"media/{self.address(question, role)}"
        return told

    def address(self, question: Question, role: Role) -> str:
        """The name under `media/` of a question's file."""
        return self._name(f"{question.id}/{role}") + Path(getattr(question, role)).suffix

    def _name(self, of: str) -> str:
        return hmac.new(self._secret, of.encode(), hashlib.sha256).hexdigest()[:24]


def _json(content: dict[str, Any], status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status, headers=_NEVER_KEPT)


def serve_study(folder: Path, *, hosts: Hosts, port: int, ready: Callable[[str], None]) -> None:
    """Serve a study until Ctrl-C; `ready` is called with the address.

    Raises:
        DataError: no study, or the port is taken.
        MissingPackageError: the `study` extra is not installed.
    """
    app = study_app(folder, hosts)
    serve(app, listen(hosts, port, needs="study"), hosts=hosts, ready=ready)
