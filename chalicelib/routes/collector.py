"""The collector's HTTP API: parse, one call, format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from chalice.app import Blueprint, Response

from chalicelib import tasks, wiring
from chalicelib.cancelling import cancel_task
from chalicelib.errors import InvalidRequest, TaskNotFound, UnsupportedMediaType
from chalicelib.gateways.aws import run
from chalicelib.pricing import latest_prices
from chalicelib.repeating import Body, Work, answer_once
from chalicelib.reporting import collector_status, task_stats
from chalicelib.requests import invalid
from chalicelib.retrying import retry_task
from chalicelib.routes.problems import guarded
from chalicelib.submitting import submit_collection, submit_symbol_refresh
from chalicelib.timeframes import iso
from chalicelib.viewing import list_active, list_tasks, view_task
from chalicelib.wiring import Desk

#: The stage is called `api`; API Gateway takes it off before a path reaches us.
_ROOT = "/v1/data-collector"
PREFIX = "/api" + _ROOT
#: Seconds after which asking again makes sense.
POLL_SECONDS = "1"
_LONGEST_ID = 100
_PAGE_TOKEN = re.compile(r"\d{13}#[0-9a-f-]{36}")

routes = Blueprint(__name__)

View = Callable[..., Response]


def _route(method: str, path: str) -> Callable[[View], View]:
    """Register a view whose errors become problem documents.

    No content types are declared: Chalice's own 415 is no problem document.
    """

    def register(view: View) -> View:
        answer = guarded(view, lambda: str(_request().context.get("path") or path))
        registered: View = routes.route(_ROOT + path, methods=[method], content_types=[])(answer)
        return registered

    return register


@_route("POST", "/start")
def start() -> Response:
    desk, body = wiring.desk(), _json_body()

    async def work(task_id: str, _: bool) -> tuple[int, Body]:
        await submit_collection(desk, body, _owner(), _request_id(), task_id)
        return _submitted(task_id, "Collection submitted")

    return _once(desk, body, work)


@_route("POST", "/refresh-symbols")
def refresh_symbols() -> Response:
    desk, body = wiring.desk(), _no_fields()

    async def work(task_id: str, _: bool) -> tuple[int, Body]:
        await submit_symbol_refresh(desk, _owner(), _request_id(), task_id)
        return _submitted(task_id, "Symbol refresh submitted")

    return _once(desk, body, work)


@_route("GET", "/task/{task_id}")
def get_task(task_id: str) -> Response:
    view = run(view_task(wiring.desk(), _possible(task_id)))
    headers = {} if view["status"] in tasks.TERMINAL else {"Retry-After": POLL_SECONDS}
    return _json(200, view, headers)


@_route("GET", "/tasks")
def get_tasks() -> Response:
    desk = wiring.desk()
    query = _query("task_type", "status", "page_size", "page_token")
    settings = desk.settings
    page_size = _page_size(query, settings.default_page_size, settings.max_page_size)
    errors = [
        {"detail": f"must be one of {', '.join(allowed)}", "pointer": f"/{name}"}
        for name, allowed in (("task_type", tasks.TASK_TYPES), ("status", tasks.STATES))
        if name in query and query[name] not in allowed
    ]
    if "page_token" in query and not _PAGE_TOKEN.fullmatch(query["page_token"]):
        errors.append({"detail": "must be a next_page_token", "pointer": "/page_token"})
    if errors:
        raise invalid(errors)
    found, following = run(
        list_tasks(
            desk,
            _owner(),
            page_size,
            query.get("page_token"),
            query.get("task_type"),
            query.get("status"),
        )
    )
    return _json(200, {"tasks": found, "next_page_token": following})


@_route("GET", "/tasks/active")
def get_active_tasks() -> Response:
    _query()
    found = run(list_active(wiring.desk()))
    return _json(200, {"tasks": found, "count": len(found)})


@_route("GET", "/tasks/stats")
def get_task_stats() -> Response:
    _query()
    return _json(200, run(task_stats(wiring.desk(), _owner())))


@_route("POST", "/task/{task_id}/cancel")
def cancel(task_id: str) -> Response:
    desk, body = wiring.desk(), _no_fields()

    async def work(_: str, taken_over: bool) -> tuple[int, Body]:
        did, receipt = await cancel_task(desk, _possible(task_id))
        did = did or taken_over
        return (202 if did else 200), {
            "task_id": task_id,
            "status": tasks.CANCELLED,
            "message": "Cancelled" if did else "Already cancelled",
            "stopped_at": iso(receipt["stopped_at"]),
            "units": {
                "total": receipt["units"],
                "succeeded": receipt["succeeded"],
                "failed": receipt["failed"],
            },
            "candles": receipt["candles"],
        }

    return _once(desk, body, work)


@_route("POST", "/task/{task_id}/retry")
def retry(task_id: str) -> Response:
    desk, body = wiring.desk(), _no_fields()

    async def work(_: str, taken_over: bool) -> tuple[int, Body]:
        attempt = await retry_task(desk, _possible(task_id), taken_over)
        return _submitted(task_id, f"Attempt {attempt} submitted", attempt=attempt)

    return _once(desk, body, work)


@_route("GET", "/status")
def get_status() -> Response:
    _query()
    return _json(200, run(collector_status(wiring.desk(), _owner())))


@_route("GET", "/latest-prices")
def get_latest_prices() -> Response:
    symbols = _query("symbols").get("symbols")
    wanted = None if symbols is None else [part for part in symbols.split(",") if part]
    return _json(200, run(latest_prices(wiring.desk(), wanted)))


def _request() -> Any:
    return routes.current_request


def _owner() -> str:
    """Whoever API Gateway says is calling; one shared owner where nothing authenticates."""
    context = _request().context
    identity = context.get("identity") or {}
    claims = (context.get("authorizer") or {}).get("principalId")
    return claims or identity.get("userArn") or identity.get("apiKeyId") or tasks.SHARED_OWNER


def _request_id() -> str:
    return str(_request().context.get("requestId", ""))


def _possible(task_id: str) -> str:
    """The id, where a task may have it: DynamoDB refuses a key above 2,048 bytes as an error."""
    if len(task_id) > _LONGEST_ID:
        raise TaskNotFound("there is no task with so long an id")
    return task_id


def _json_body() -> object:
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


def _no_fields() -> object:
    body = _json_body()
    if body != {}:
        raise InvalidRequest(
            "this request takes no body", [{"detail": "must be empty or {}", "pointer": ""}]
        )
    return body


def _query(*allowed: str) -> dict[str, str]:
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


def _page_size(query: dict[str, str], default: int, most: int) -> int:
    text = query.get("page_size")
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise invalid([{"detail": f"must be an integer from 1 to {most}", "pointer": "/page_size"}])
    return int(text)


def _submitted(task_id: str, message: str, **more: Any) -> tuple[int, Body]:
    return 202, {"task_id": task_id, "status": "submitted", "message": message, **more}


def _once(desk: Desk, body: object, work: Work) -> Response:
    """Answer a POST, at most once per Idempotency-Key."""
    key = _request().headers.get("idempotency-key")
    path = str(_request().context.get("path"))
    answer = run(answer_once(desk, _owner(), key, (path, body), work))
    headers = {}
    if answer.body.get("status") == "submitted":
        headers["Location"] = f"{PREFIX}/task/{answer.body['task_id']}"
        headers["Retry-After"] = POLL_SECONDS
    if answer.expires_ms is not None:
        headers["Idempotency-Key-Expires"] = iso(answer.expires_ms) or ""
        headers["Idempotency-Replayed"] = "true" if answer.replayed else "false"
    return _json(answer.status, answer.body, headers)


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> Response:
    return Response(
        json.dumps(body),
        {"Content-Type": "application/json", **(headers or {})},
        status,
    )
