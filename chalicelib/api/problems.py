"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any
from urllib.parse import quote, unquote

from chalice.app import Response

from chalicelib.core import metrics
from chalicelib.core.errors import (
    CollectorError,
    Forbidden,
    InvalidRequest,
    QuotaExceeded,
    TaskExpired,
    Unauthenticated,
)
from chalicelib.core.logs import bound, log

TYPE_ROOT = "urn:problem:data-collector:"


def problem(
    status: int,
    title: str,
    reason: str,
    detail: str,
    instance: str,
    challenge: str | None = None,
    **more: Any,
) -> Response:
    """The response to a failed request. `reason` is UPPER_SNAKE; `challenge` is the value of
    WWW-Authenticate, if it has one; `more` are extra members."""
    body = {
        "type": TYPE_ROOT + reason.lower().replace("_", "-"),
        "title": title,
        "status": status,
        "detail": detail,
        "instance": _uri(instance),
        "reason": reason,
        **more,
    }
    headers: dict[str, str | list[str]] = {"Content-Type": "application/problem+json"}
    if status == 503:
        headers["Retry-After"] = "5"
    if challenge is not None:
        headers["WWW-Authenticate"] = challenge
    return Response(json.dumps(body), headers, status)


def guarded(
    view: Callable[..., Response],
    path: Callable[[], str],
    request: Callable[[], Mapping[str, Any]] = dict,
) -> Callable[..., Response]:
    """`view` with its log line and its metrics; every error becomes a problem document.

    This is not a middleware of Chalice, because Chalice answers for a failing view before its
    middleware runs. `path` gives the request's path, `request` its context from API Gateway.
    """
    answered = _answering(view, path)

    @wraps(view)
    def answer(**arguments: str) -> Response:
        context = request()
        subject = {name: value[:100] for name, value in arguments.items() if name == "task_id"}
        with bound(request_id=str(context.get("requestId", "")), **subject):
            metrics.note_start()
            started = time.monotonic()
            try:
                response = answered(**arguments)
                status, method = response.status_code, str(context.get("httpMethod", ""))
                metrics.count("ApiRequests", Status=f"{status // 100}xx")
                log(
                    "request_answered",
                    # Clients that poll a task would fill the log.
                    level="debug" if method == "GET" and status < 400 else "info",
                    method=method,
                    path=path()[:200],
                    status=status,
                    ms=round((time.monotonic() - started) * 1000),
                )
                return response
            finally:
                metrics.flush()

    return answer


def _answering(view: Callable[..., Response], path: Callable[[], str]) -> Callable[..., Response]:
    def answer(**arguments: str) -> Response:
        try:
            return view(**arguments)
        except CollectorError as error:
            more: dict[str, Any] = {}
            if isinstance(error, InvalidRequest) and error.errors:
                more["errors"] = error.errors
            if isinstance(error, Unauthenticated):
                more["challenge"] = error.challenge
            if isinstance(error, Forbidden):
                more["scopes"] = list(error.scopes)
            if isinstance(error, TaskExpired):
                more["audit"] = f"/api/v1/data-collector/audit?task_id={arguments['task_id']}"
            if error.status >= 500:
                log("request_failed", level="error", path=path(), error=error.detail)
            answer = problem(error.status, error.title, error.reason, error.detail, path(), **more)
            if isinstance(error, QuotaExceeded):
                answer.headers.update(error.headers)
            return answer
        except Exception as error:  # noqa: BLE001 - the edge: the caller gets a document
            log("request_crashed", level="error", trace=True, error=repr(error))
            return problem(
                500, "Internal error", "INTERNAL", "something broke; the log has it", path()
            )

    return answer


def _uri(path: str) -> str:
    """A path as the URI reference that `instance` must be. It may come percent-encoded or not."""
    return quote(unquote(path), safe="/:@!$&'()*+,;=", errors="replace")
