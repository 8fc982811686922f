"""What every route needs of HTTP: who asks, the body, the query, problem documents, one answer per
Idempotency-Key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from chalice.app import Blueprint, Response

from chalicelib.api.idempotency import Body, Work, answer_once
from chalicelib.api.problems import guarded
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.core.errors import InvalidRequest, UnsupportedMediaType
from chalicelib.core.problems import invalid
from chalicelib.core.times import iso
from chalicelib.tasks import states

#: The stage is called `api`; API Gateway takes it off before a path reaches us.
_ROOT = "/v1/data-collector"
PREFIX = "/api" + _ROOT
#: Seconds after which asking again makes sense.
POLL_SECONDS = "1"
_LONGEST_ID = 100

View = Callable[..., Response]
routes = Blueprint(__name__)


def route(method: str, path: str) -> Callable[[View], View]:
    """Register a view whose errors become problem documents.

    No content types are declared: Chalice's own 415 is no problem document.
    """

    def register(view: View) -> View:
        guard = guarded(
            view,
            lambda: str(_request().context.get("path") or path),
            lambda: dict(_request().context),
        )
        registered: View = routes.route(_ROOT + path, methods=[method], content_types=[])(guard)
        return registered

    return register


def _request() -> Any:
    return routes.current_request


def owner() -> str:
    """Whoever API Gateway says is calling; one shared owner where nothing authenticates."""
    context = _request().context
    identity = context.get("identity") or {}
    claims = (context.get("authorizer") or {}).get("principalId")
    return claims or identity.get("userArn") or identity.get("apiKeyId") or states.SHARED_OWNER


def request_id() -> str:
    return str(_request().context.get("requestId", ""))


def possible_id(text: str) -> bool:
    """Whether something may have this id: DynamoDB refuses a key above 2,048 bytes as an error."""
    return 0 < len(text) <= _LONGEST_ID


def json_body() -> object:
    """The parsed JSON body; an empty one is an empty object."""
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
            [{"detail": str(error), "pointer": ""}],
            reason="INVALID_JSON",
        ) from None


def no_fields() -> object:
    body = json_body()
    if body != {}:
        raise InvalidRequest(
            "this request takes no body", [{"detail": "must be empty or {}", "pointer": ""}]
        )
    return body


def query(*allowed: str) -> dict[str, str]:
    given = _request().query_params or {}
    errors = []
    for name in given:
        if name not in allowed:
            errors.append(
                {
                    "detail": f"unknown parameter; allowed are: {', '.join(allowed) or 'none'}",
                    "pointer": f"/{name[:100]}",
                }
            )
    if errors:
        raise invalid(errors)
    return dict(given)


def page_size(query: dict[str, str], default: int, most: int) -> int:
    text = query.get("page_size")
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise invalid([{"detail": f"must be an integer from 1 to {most}", "pointer": "/page_size"}])
    return int(text)


def submitted(task_id: str, message: str, **more: Any) -> tuple[int, Body]:
    return 202, {"task_id": task_id, "status": "submitted", "message": message, **more}


def once(backend: Backend, body: object, work: Work) -> Response:
    """Answer a POST, at most once per Idempotency-Key."""
    key = _request().headers.get("idempotency-key")
    path = str(_request().context.get("path"))
    made = run(answer_once(backend, owner(), key, (path, body), work))
    headers = {}
    if made.body.get("status") == "submitted":
        headers["Location"] = f"{PREFIX}/task/{made.body['task_id']}"
        headers["Retry-After"] = POLL_SECONDS
    if made.expires_ms is not None:
        headers["Idempotency-Key-Expires"] = iso(made.expires_ms) or ""
        headers["Idempotency-Replayed"] = "true" if made.replayed else "false"
    return answer(made.status, made.body, headers)


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> Response:
    return Response(
        json.dumps(body),
        {"Content-Type": "application/json", **(headers or {})},
        status,
    )
