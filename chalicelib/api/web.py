"""What every route needs of HTTP: the caller, the body, the query, ids, and the answer."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, Literal

from chalice.app import Blueprint, Response

from chalicelib import wiring
from chalicelib.access.caller import Caller, identify
from chalicelib.access.scopes import OPEN
from chalicelib.api.idempotency import Body, Work, answer_once, checked_key
from chalicelib.api.problems import guarded
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.core.errors import (
    InvalidRequest,
    KeyNotFound,
    ScheduleNotFound,
    TaskNotFound,
    UnsupportedMediaType,
)
from chalicelib.core.problems import Errors, invalid, pointer_token, problem
from chalicelib.core.settings import Settings
from chalicelib.core.times import iso, parse_time
from chalicelib.quotas.rate import take_request

#: The stage is called `api`. API Gateway takes it off before a path reaches us.
_ROOT = "/v1/data-collector"
PREFIX = "/api" + _ROOT
#: Seconds after which a client should ask again.
POLL_SECONDS = "1"
_LONGEST_ID = 100

View = Callable[..., Response]
routes = Blueprint(__name__)
#: Of every route, (method, path): the scopes of which a caller needs one; OPEN alone: nobody is
#: asked.
SCOPES: dict[tuple[str, str], tuple[str, ...]] = {}
_CALLER: ContextVar[Caller] = ContextVar("caller")


def route(
    method: str, path: str, *, scope: str, or_scope: str | None = None, root: str = _ROOT
) -> Callable[[View], View]:
    """Register a view: who calls is checked before it, and errors become problem documents.

    `scope`: what a caller needs (access/scopes.py), or else `or_scope`; OPEN: nobody is asked.
    `root`: what `path` is below; "" for pages. No content types are declared, because Chalice's own
    415 is not a problem document.
    """
    scopes = (scope,) if or_scope is None else (scope, or_scope)
    SCOPES[method, path] = scopes

    def register(view: View) -> View:
        guard = guarded(
            view if scope == OPEN else _checked(_within_rate(view), scopes),
            lambda: str(_request().context.get("path") or path),
            lambda: dict(_request().context),
        )
        registered: View = routes.route(root + path, methods=[method], content_types=[])(guard)
        return registered

    return register


def _checked(view: View, scopes: tuple[str, ...]) -> View:
    """`view`, for callers with one of the scopes. The one place where requests are let in."""

    @wraps(view)
    def check(**arguments: str) -> Response:
        request = _request()
        identity = request.context.get("identity") or {}
        header = request.headers.get("authorization", "")
        found = run(identify(wiring.backend(), header, identity))
        found.require(*scopes)
        token = _CALLER.set(found)
        try:
            return view(**arguments)
        finally:
            _CALLER.reset(token)

    return check


def _within_rate(view: View) -> View:
    """`view`, for callers that have not asked too often within the second."""

    @wraps(view)
    def answer(**arguments: str) -> Response:
        backend = wiring.backend()
        headers = take_request(backend.settings, owner(), backend.now_ms())
        response = view(**arguments)
        response.headers.update(headers)
        return response

    return answer


def _request() -> Any:
    return routes.current_request


def caller() -> Caller:
    """Who sent this request."""
    return _CALLER.get()


def owner() -> str:
    """Whose tasks the caller makes; one shared owner where nothing authenticates."""
    return caller().owner


def path() -> str:
    """The request's path as the client sees it: with the stage, or what a domain maps to it."""
    return str(_request().context.get("path"))


def request_id() -> str:
    return str(_request().context.get("requestId", ""))


def header(name: str) -> str:
    """Of the request; empty where it has none. `name`: in lower case."""
    return str(_request().headers.get(name, ""))


def possible_id(text: str) -> bool:
    """Whether something may have this id. DynamoDB refuses a key above 2,048 bytes."""
    return 0 < len(text) <= _LONGEST_ID


def path_id(kind: Literal["task", "schedule", "key"], text: str) -> str:
    """The id in a path. Raises TaskNotFound, ScheduleNotFound or KeyNotFound where nothing can have
    it."""
    if not possible_id(text):
        missing = {"task": TaskNotFound, "schedule": ScheduleNotFound, "key": KeyNotFound}[kind]
        raise missing(f"there is no {kind} with so long an id")
    return text


def json_body() -> object:
    """The parsed JSON body; an empty one is an empty object. Its request takes no query.

    Raises InvalidRequest, or UnsupportedMediaType.
    """
    query()
    request = _request()
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind != "application/json" and request.raw_body:
        raise UnsupportedMediaType(f"send application/json, not {kind[:100] or 'nothing'}")
    if not request.raw_body.strip():
        return {}
    try:
        return json.loads(request.raw_body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"the body is no JSON: {error}",
            [problem(str(error), "")],
            reason="INVALID_JSON",
        ) from None


def no_fields() -> object:
    """The body of a request that takes none: an empty object. Raises InvalidRequest."""
    body = json_body()
    if body != {}:
        raise InvalidRequest("this request takes no body", [problem("must be empty or {}", "")])
    return body


def query(*allowed: str) -> dict[str, str]:
    """The query's parameters. Raises InvalidRequest where others are given, or one repeatedly."""
    given = _request().query_params
    if given is None:
        return {}
    unknown = f"unknown parameter; allowed are: {', '.join(allowed) or 'none'}"
    errors = [
        problem(
            "is given more than once; give it once" if name in allowed else unknown,
            f"/{pointer_token(name)}",
        )
        for name in given
        if name not in allowed or len(given.getlist(name)) > 1
    ]
    if errors:
        raise invalid(errors)
    return dict(given)


def page_size(query: dict[str, str], settings: Settings) -> int:
    """How many entries a page may have. Raises InvalidRequest."""
    return count(query, "page_size", settings.default_page_size, settings.max_page_size)


def count(query: dict[str, str], name: str, usual: int, most: int) -> int:
    """A whole number from 1 to `most`; `usual` where none is given. Raises InvalidRequest."""
    text = query.get(name)
    if text is None:
        return usual
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise invalid([problem(f"must be an integer from 1 to {most}", f"/{name}")])
    return int(text)


def time_range(
    query: dict[str, str], first: str, last: str
) -> tuple[int | None, int | None, Errors]:
    """The times that two parameters name, in epoch ms, None: not given; and what is wrong with
    them."""
    times: dict[str, int | None] = {first: None, last: None}
    errors: Errors = []
    for name in times:
        text = query.get(name)
        if text is None:
            continue
        # Eight digits are an ISO date.
        number = text.isascii() and text.isdecimal() and 8 < len(text) < 20
        try:
            times[name] = parse_time(int(text) if number else text)
        except ValueError as error:
            errors.append(problem(str(error), f"/{name}"))
    begin, end = times[first], times[last]
    if begin is not None and end is not None and begin >= end:
        errors.append(problem(f"must be before {last}", f"/{first}"))
    return begin, end, errors


def page_token_errors(query: dict[str, str], token: re.Pattern[str]) -> Errors:
    """What is wrong with the query's page_token; `token` is the form of a right one."""
    if "page_token" in query and not token.fullmatch(query["page_token"]):
        return [problem("must be a next_page_token", "/page_token")]
    return []


def choice_errors(query: dict[str, str], allowed: Mapping[str, Sequence[str]]) -> Errors:
    """A problem for each parameter that has none of its values; `allowed`: parameter -> values."""
    return [
        problem(f"must be one of {', '.join(values)}", f"/{name}")
        for name, values in allowed.items()
        if name in query and query[name] not in values
    ]


def submitted(task_id: str, message: str, **more: Any) -> tuple[int, Body]:
    """Status and body where a task was submitted."""
    return 202, {"task_id": task_id, "status": "submitted", "message": message, **more}


def idempotency_key() -> str | None:
    """Raises InvalidRequest for a malformed one."""
    return checked_key(_request().headers.get("idempotency-key"))


def once(backend: Backend, body: object, work: Work) -> Response:
    """Answer a POST, at most once per Idempotency-Key."""
    made = run(answer_once(backend, owner(), idempotency_key(), (path(), body), work))
    headers = {}
    if made.body.get("status") == "submitted":
        headers["Location"] = f"{PREFIX}/task/{made.body['task_id']}"
        headers["Retry-After"] = POLL_SECONDS
    if made.expires_ms is not None:
        headers["Idempotency-Key-Expires"] = iso(made.expires_ms) or ""
        headers["Idempotency-Replayed"] = "true" if made.replayed else "false"
    return answer(made.status, made.body, headers)


class Bytes(Response):
    """An answer that is no text: Lambda takes it in base64, and API Gateway sends the bytes."""

    def to_dict(self, binary_types: list[str] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = Response("", self.headers, self.status_code).to_dict()
        return {**found, "body": b64encode(self.body).decode(), "isBase64Encoded": True}


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> Response:
    return Response(
        json.dumps(body),
        {"Content-Type": "application/json", **(headers or {})},
        status,
    )
