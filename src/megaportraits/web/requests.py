"""Rules for requests to the animation page. Gradio itself has many more routes and checks calls less strictly.

Intentionally not allowed: fetching URLs for a visitor (`/proxy=`, `/file=http...`), OpenAPI, run history, deep links,
monitoring, the code editor, components' server functions, transcoding with a program from the internet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qs

import gradio as gr
from pydantic import BaseModel, Field, ValidationError

from megaportraits.web.guard import Refused, Rule, paths
from megaportraits.web.uploads import UploadFolder

_CALL_BYTES = 100_000
_LONGEST_TEXT, _LARGEST_NUMBER = 2000, 1e12
_PAGES, _STREAMS = 100, 32
"""Maximum number of open pages, and of pending responses of each kind."""
_POST = frozenset({"POST"})
_SESSION = r"[A-Za-z0-9_-]{1,64}"
Session = Annotated[str, Field(pattern=rf"^{_SESSION}$")]
_Model = TypeVar("_Model", bound=BaseModel)


class _FunctionCall(BaseModel, strict=True):
    """A call of one of the page's functions."""

    data: Annotated[list[Any], Field(max_length=64)]
    session_hash: Session | None = None
    fn_index: int | None = None
    trigger_id: int | None = None
    event_data: Any = None
    batched: bool | None = None
    simple_format: bool = False


class _Click(BaseModel):
    """A click on a picture; position in pixels."""

    index: Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)]
    value: Any


class _Meta(BaseModel, strict=True):
    kind: Annotated[Literal["gradio.FileData"], Field(alias="_type")]


class _UploadedFile(BaseModel, strict=True):
    """A file that was uploaded."""

    path: Annotated[str, Field(max_length=_LONGEST_TEXT)]
    meta: _Meta
    url: str | None = None
    size: int | None = None
    orig_name: str | None = None
    mime_type: str | None = None
    is_stream: Literal[False] = False


class _Cancel(BaseModel, strict=True):
    session_hash: Session
    fn_index: int
    event_id: Session


class _Reset(BaseModel, strict=True):
    event_id: str


def page_rules(page: gr.Blocks, uploads: UploadFolder) -> list[Rule]:
    """The rules for a page with its folder of files."""
    limits = uploads.limits
    calls = _Calls(page, uploads.folder)
    api = "/gradio_api/"
    return [
        Rule(paths("/", "/config/?", r"/theme\.css", r"/favicon\.ico", r"/manifest\.json", r"/robots\.txt")),
        Rule(paths(r"/(assets|static|svelte)/.+", r"/pwa_icon(/\d+)?")),
        Rule(paths(api + r"(info|app_id|login_check|user|startup-events|theme\.css|queue/status)/?")),
        Rule(re.compile(api + r"file=(?P<path>.+)", re.DOTALL), check=_local_file),
        Rule(re.compile(api + f"heartbeat/{_SESSION}"), at_once=_PAGES),
        Rule(re.compile(api + "upload_progress"), check=_upload_id, at_once=_STREAMS),
        Rule(re.compile(api + "queue/data"), check=calls.is_known_session, at_once=_STREAMS),
        Rule(
            re.compile(api + rf"call/(?!v2/)\w{{1,64}}/(?P<event>{_SESSION})"),
            check=calls.is_known_event,
            at_once=_STREAMS,
        ),
        Rule(re.compile(api + r"call/(?P<name>\w{1,64})/?"), _POST, _CALL_BYTES, calls.by_name),
        Rule(re.compile(api + "queue/join"), _POST, _CALL_BYTES, calls.by_number),
        Rule(re.compile(api + r"run/\w{1,64}/?"), _POST, _CALL_BYTES, calls.at_once),
        Rule(re.compile(api + "cancel"), _POST, _CALL_BYTES, lambda match, query, body: _parse(_Cancel, body)),
        Rule(re.compile(api + "reset/?"), _POST, _CALL_BYTES, lambda match, query, body: _parse(_Reset, body)),
        Rule(
            re.compile(api + "upload"),
            _POST,
            limits.request_bytes,
            upload=uploads.place,
            body_seconds=limits.seconds,
            idle_seconds=limits.idle_seconds,
        ),
    ]


class _Calls:
    """Checks of calls before Gradio receives them."""

    def __init__(self, page: gr.Blocks, folder: Path) -> None:
        self._page, self._folder = page, folder.resolve()

    def by_number(self, _match: re.Match[str], _query: str, body: bytes) -> None:
        """`queue/join`: call a function by its number, for a session."""
        call = _parse(_FunctionCall, body)
        if call.session_hash is None:
            raise Refused(400, "Expected a session_hash, got none.")
        self._check(call, self._function(call))

    def at_once(self, _match: re.Match[str], _query: str, body: bytes) -> None:
        """`run`: call a function by its number, if it may run outside the queue."""
        call = _parse(_FunctionCall, body)
        function = self._function(call)
        if function.queue:
            raise Refused(400, "Expected a function that needs no queue; send others to queue/join.")
        self._check(call, function)

    def by_name(self, match: re.Match[str], _query: str, body: bytes) -> None:
        """`call/NAME`: call a public function."""
        call = _parse(_FunctionCall, body)
        found = [
            function
            for function in self._page.fns.values()
            if function.api_name == match["name"] and function.api_visibility == "public"
        ]
        if not found or call.fn_index is not None:
            raise Refused(404, "There is no function of this name.")
        self._check(call, found[0])

    def is_known_session(self, _match: re.Match[str], query: str, _body: bytes) -> None:
        """`queue/data`: the results for a session with pending calls."""
        session = (parse_qs(query).get("session_hash") or [""])[0]
        if session not in self._page._queue.pending_messages_per_session:
            raise Refused(404, "There is no such session.")

    def is_known_event(self, match: re.Match[str], _query: str, _body: bytes) -> None:
        """`call/NAME/EVENT`: the result of a call."""
        queue, event = self._page._queue, match["event"]
        sessions = (*queue.pending_messages_per_session.keys(), *queue.event_ids_to_events.keys())
        if event not in sessions and not any(event in events for events in queue.pending_event_ids_session.values()):
            raise Refused(404, "There is no such call, or its result has been sent already.")

    def _function(self, call: _FunctionCall) -> Any:
        if call.fn_index is None or call.fn_index not in self._page.fns:
            raise Refused(400, "Expected the number of a function in fn_index.")
        return self._page.fns[call.fn_index]

    def _check(self, call: _FunctionCall, function: Any) -> None:
        blocks = function.inputs
        if len(call.data) != len(blocks):  # programs omit the state that is kept between calls
            blocks = [block for block in blocks if not block.skip_api]
        if len(call.data) != len(blocks):
            raise Refused(400, f"Expected {len(function.inputs)} values in data, got {len(call.data)}.")
        for block, value in zip(blocks, call.data, strict=True):
            self._check_value(block, value, choices=function.preprocess)
        if any(event == "select" for _, event in function.targets):
            _parse_value(_Click, call.event_data)

    def _check_value(self, block: Any, value: Any, *, choices: bool) -> None:
        """A value that a control can have; the job itself reports invalid combinations."""
        if isinstance(block, gr.State):
            fits = value is None
        elif isinstance(block, gr.Dataset):
            fits = type(value) is int and 0 <= value < len(block.samples)
        elif isinstance(block, (gr.Image, gr.Video)):
            fits = value is None or self._is_upload(value)
        elif choices and isinstance(block, gr.Radio):
            fits = any(value == known and type(value) is type(known) for _, known in block.choices)
        else:
            fits = _is_plain(value)
        if not fits:
            kind = block.get_block_name()
            raise Refused(400, f"Expected a valid value for each {kind} in data; files must be uploaded first.")

    def _is_upload(self, value: Any) -> bool:
        if isinstance(value, Mapping) and isinstance(value.get("video"), Mapping):
            value = value["video"]
        try:
            path = Path(_UploadedFile.model_validate(value).path).resolve()
            return path.is_relative_to(self._folder) and path.is_file()
        except (ValidationError, OSError, ValueError, RuntimeError):
            return False


def _is_plain(value: Any) -> bool:
    """A short text, a number, or None."""
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT
    return value is None or (isinstance(value, (int, float)) and abs(value) <= _LARGEST_NUMBER)


def _local_file(match: re.Match[str], _query: str, _body: bytes) -> None:
    """Refuse URLs, which Gradio would fetch for the visitor."""
    if re.match(r"//|[A-Za-z][A-Za-z0-9+.-]+:/", match["path"]):
        raise Refused(403, "This server only serves its own files.")


def _upload_id(_match: re.Match[str], query: str, _body: bytes) -> None:
    if not re.fullmatch(_SESSION, (parse_qs(query).get("upload_id") or [""])[0]):
        raise Refused(400, "Expected an upload_id.")


def _parse(model: type[_Model], body: bytes) -> _Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Refused(400, _told(error)) from error


def _parse_value(model: type[BaseModel], value: Any) -> None:
    try:
        model.model_validate(value)
    except ValidationError as error:
        raise Refused(400, _told(error)) from error


def _told(error: ValidationError) -> str:
    """The first validation error, without the received value."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"Invalid request: {where + ': ' if where else ''}{first['msg'][:200]}."
