"""A collector's API that answers from a script: in tests as an httpx transport, and by hand as a
server to look at the client with (`python -m tests.cli.fake_api`, then `data-collector …`)."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

PREFIX = "/api/v1/data-collector"
TASK_ID = "0197c2f4-5b1e-7cc0-9d6e-2f1f3c8a7b10"
ENDED_TASK = {
    "task_id": "0197b000-5b1e-7cc0-9d6e-2f1f3c8a7b10",
    "attempt": 1,
    "status": "completed",
    "task_type": "data_collection",
    "owner": "anonymous",
    "source": "request",
    "schedule_id": None,
    "cancelled_by": None,
    "asked": {"symbols": 7, "symbol_names": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "4h"]},
    "created_at": "2026-11-23T13:42:49.643Z",
    "started_at": "2026-11-23T13:42:49.705Z",
    "completed_at": "2026-11-23T13:43:00.000Z",
    "units": {"total": 14, "succeeded": 13, "failed": 1},
    "candles": 14000,
    "message": "Collected 13 of 14 units, 14000 candles; 1 units failed",
    "error": None,
}
SCHEDULE_ID = "b5a1c7c8-6d0c-4dc5-8d5e-0c3a2f0e8a07"
AT = "2026-11-23T12:00:00Z"

#: What stands beside the only task of a list of active ones.
ALL = {"count": 1, "next_page_token": None}
STATS = {
    "task_counts": {"pending": 0, "running": 1, "completed": 12, "failed": 1, "cancelled": 0},
    "active_tasks_count": 1,
    "data_collector_status": {
        "symbols_count": 4,
        "timeframes": ["1m", "5m", "15m", "1h", "4h", "1d"],
        "available_symbols": ["BTCUSDT", "ETHUSDT", "ETHBTC", "SOLUSDT"],
    },
}
STATUS = {
    "status": "collecting",
    "task_counts": {"running": 1, "completed": 12},
    "queues": {
        "plan": {"visible": 0, "in_flight": 1, "delayed": 0},
        "work-urgent": {"visible": 0, "in_flight": 0, "delayed": 0},
        "work-normal": {"visible": 1234, "in_flight": 30, "delayed": 5},
    },
    "rate_budget": {"limit": 6000, "used": 1800, "left": 4200, "resets_at": "2026-11-23T12:01:00Z"},
    "breaker": {"open": False, "until": None, "reason": None},
}
PAUSE = {
    "by": "anna",
    "since": AT,
    "until": None,
    "reason": "maintenance",
    "tasks_wait_until": "2026-11-29T12:00:00Z",
}
PRICES = {
    "prices": {
        "BTCUSDT": {
            "price": 91234.5,
            "time": "2026-11-23T11:59:48Z",
            "age_seconds": 12,
            "stale": False,
        },
        "SHIBUSDT": {
            "price": 1.234e-05,
            "time": "2026-11-23T11:55:00Z",
            "age_seconds": 300,
            "stale": True,
        },
    },
    "unreachable": ["NOPEUSDT"],
    "as_of": AT,
}
KEY_ID = "0123456789abcdef"
KEY_TEXT = f"mdc_{KEY_ID}_vJqptN3uYw0bR5xKc8aQe2LhZs7DfGm1TnPoVi4Xk9E"
KEY = {
    "key_id": KEY_ID,
    "owner": "research",
    "scopes": ["collect", "read"],
    "status": "live",
    "created_at": AT,
    "created_by": "admin",
    "expires_at": None,
    "rotated_at": None,
    "rotated_by": None,
    "last_used_at": AT,
    "revoked_at": None,
    "revoked_by": None,
}
COVERAGE = {
    "exchange": "local",
    "resolution": "month",
    "coverage": [
        {
            "symbol": "BTCUSDT",
            "timeframe": "1h",
            "start": "2026-01-01T00:00:00.000Z",
            "end": "2026-03-01T00:00:00.000Z",
            "expected": 1416,
            "held": 1400,
            "explained": {"exchange_outage": 6},
            "missing": 10,
            "percent": 99.29,
            "cells": [
                {
                    "start": "2026-01-01T00:00:00.000Z",
                    "end": "2026-02-01T00:00:00.000Z",
                    "expected": 744,
                    "held": 744,
                    "explained": {},
                    "missing": 0,
                    "percent": 100.0,
                },
                {
                    "start": "2026-02-01T00:00:00.000Z",
                    "end": "2026-03-01T00:00:00.000Z",
                    "expected": 672,
                    "held": 656,
                    "explained": {"exchange_outage": 6},
                    "missing": 10,
                    "percent": 98.51,
                },
            ],
        }
    ],
    "next_page_token": None,
}
GAPS = {
    "exchange": "local",
    "symbol": "BTCUSDT",
    "timeframe": "1h",
    "start": "2026-01-01T00:00:00.000Z",
    "end": "2026-03-01T00:00:00.000Z",
    "gaps": [
        {
            "start": "2026-02-03T04:00:00.000Z",
            "end": "2026-02-03T10:00:00.000Z",
            "candles": 6,
            "reason": "exchange_outage",
            "evidence": {"first_asked": AT, "last_asked": AT, "times_asked": 4},
        },
        {
            "start": "2026-02-28T14:00:00.000Z",
            "end": "2026-03-01T00:00:00.000Z",
            "candles": 10,
            "reason": "not_collected",
            "evidence": None,
        },
    ],
    "next_page_token": None,
}
SUBMITTED = {"task_id": TASK_ID, "status": "submitted", "message": "18 units will be collected"}


def task(
    status: str = "completed",
    done: int = 18,
    failed: int = 0,
    total: int = 18,
    message: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A collection task of `total` units, `done` of them counted."""
    ended = status in ("completed", "failed", "cancelled")
    pairs = [(s, t) for s in ("NOPEUSDT", "GONEUSDT", "DELISTEDUSDT") for t in ("1m", "5m", "1h")]
    failures = [
        {
            "symbol": pairs[n % 9][0],
            "timeframe": pairs[n % 9][1],
            "start": AT,
            "end": AT,
            "reason": "UNKNOWN_SYMBOL",
            "detail": "The exchange says: Invalid symbol. It may have been delisted (code -1121).",
        }
        for n in range(failed)
    ]
    return {
        "task_id": TASK_ID,
        "task_type": "data_collection",
        "status": status,
        "progress": 100 if status == "completed" else min(99, done * 100 // total),
        "message": message or f"Collected data for ETHUSDT 5m ({done}/{total})",
        "created_at": AT,
        "started_at": AT,
        "completed_at": "2026-11-23T12:01:12Z" if ended else None,
        "error": None,
        "result": {"units": total, "succeeded": done - failed, "failed": failed} if ended else None,
        "units": {
            "total": total,
            "succeeded": done - failed,
            "failed": failed,
            "remaining": total - done,
        },
        "candles": (done - failed) * 1000,
        "eta_seconds": None if ended else (total - done) // 2,
        "attempt": 1,
        "failures": failures,
        **more,
    }


def schedule(**more: Any) -> dict[str, Any]:
    """A schedule that has run, and lags a little."""
    return {
        "schedule_id": SCHEDULE_ID,
        "name": "mornings",
        "expression": "cron(0 6 ? * MON-FRI *)",
        "timezone": "Europe/Berlin",
        "enabled": True,
        "overlap": "queue",
        "catch_up": True,
        "next_run_at": "2026-11-24T05:00:00.000Z",
        "queued_for": None,
        "runs": {"started": 1412, "skipped": 3, "missed": 1},
        "last_skipped_at": None,
        "last_refused_at": None,
        "refusal": None,
        "created_at": AT,
        "updated_at": AT,
        "in_sync": True,
        "sync_error": None,
        "request": {"symbols": ["BTCUSDT", "ETHUSDT"], "timeframes": ["1h", "1d"]},
        "last_run": {"at": AT, "by": "schedule", "task_id": TASK_ID, "status": "completed"},
        "freshness": {
            "promised_seconds": 120,
            "lag_seconds": 67,
            "timeframes": {"1h": 67, "1d": 0},
            "behind": 0,
            "measured_at": AT,
            "breaches": 2,
            "breached_since": None,
            "last_repair_task_id": None,
        },
        **more,
    }


def problem(status: int, title: str, detail: str, reason: str, **more: Any) -> httpx.Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return httpx.Response(
        status,
        json={**body, "instance": "/", "reason": reason, **more},
        headers={"Content-Type": "application/problem+json"},
    )


Reply = httpx.Response | dict[str, Any] | BaseException


class FakeApi(httpx.BaseTransport):
    """Answers every route; `script` replaces a route's answers, one call after the other.

    A route is "GET /task" or "POST /task/cancel": the task's id is left out. The last answer of
    a script is repeated. An exception in a script is raised, as a transport would.
    """

    def __init__(self, script: dict[str, Iterable[Reply]] | None = None):
        self.requests: list[httpx.Request] = []
        self.script = {route: list(replies) for route, replies in (script or {}).items()}
        self.usual: dict[str, tuple[int, dict[str, Any]]] = {
            "POST /start": (202, SUBMITTED),
            "POST /refresh-symbols": (202, SUBMITTED),
            "GET /task": (200, task()),
            "POST /task/cancel": (202, {"task_id": TASK_ID, "status": "cancelled"}),
            "POST /task/retry": (202, SUBMITTED),
            "GET /tasks": (200, {"tasks": [task(), task("running", 9)], "next_page_token": None}),
            "GET /tasks/active": (200, {"tasks": [task("running", 9)], **ALL}),
            "GET /tasks/stats": (200, STATS),
            "GET /status": (200, STATUS),
            "GET /latest-prices": (200, PRICES),
            "GET /schedules": (200, {"schedules": [schedule()], "next_page_token": None}),
            "POST /schedules": (201, schedule()),
            "GET /schedules/{id}": (200, schedule()),
            "PATCH /schedules/{id}": (200, schedule(enabled=False, next_run_at=None)),
            "DELETE /schedules/{id}": (200, {"schedule_id": SCHEDULE_ID, "status": "deleted"}),
            "POST /schedules/{id}/run": (202, SUBMITTED),
            "POST /pause": (200, {"paused": True, "message": "Paused", "pause": PAUSE}),
            "POST /resume": (200, {"paused": False, "message": "Resumed", "pause": None}),
            "GET /keys": (200, {"keys": [KEY], "next_page_token": None}),
            "POST /keys": (201, {**KEY, "key": KEY_TEXT}),
            "POST /keys/{id}/rotate": (200, {**KEY, "key": KEY_TEXT}),
            "DELETE /keys/{id}": (200, {**KEY, "status": "revoked"}),
            "GET /history": (200, {"tasks": [ENDED_TASK], "next_page_token": None}),
            "GET /coverage": (200, COVERAGE),
            "GET /coverage/gaps": (200, GAPS),
            "POST /coverage/fill": (202, SUBMITTED),
            "POST /coverage/verify": (202, SUBMITTED),
            "GET /audit": (200, {"events": [], "next_page_token": None}),
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        _, prefix, path = request.url.path.partition(PREFIX)
        assert prefix, request.url
        parts = path.strip("/").split("/")
        if parts[0] in ("task", "schedules", "keys") and len(parts) > 1:
            parts[1:2] = [] if parts[0] == "task" else ["{id}"]
        route = f"{request.method} /{'/'.join(parts)}"
        replies = self.script.get(route)
        if not replies:
            status, body = self.usual.get(route, (404, {"message": "Not Found"}))
            return httpx.Response(status, json=body)
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, dict):
            return httpx.Response(202 if request.method == "POST" else 200, json=reply)
        # Each call needs its own: a response is used up by being read.
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    def sent(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


class RunningApi(FakeApi):
    """The same, with a task that advances with the clock: 18,000 units, then as asked."""

    def __init__(self, seconds: float, total: int, failed: int):
        super().__init__()
        self.seconds, self.total, self.failed = seconds, total, failed
        self.began = time.monotonic()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.began = time.monotonic()
        if request.method == "GET" and "/task/" in request.url.path:
            share = min((time.monotonic() - self.began) / self.seconds, 1)
            done = int(share * self.total)
            state = "completed" if share == 1 else "running"
            body = task(state, done, int(share * self.failed), self.total)
            return httpx.Response(200, json=body, headers={"Retry-After": "1"})
        return super().handle_request(request)


def serve(api: FakeApi, port: int) -> ThreadingHTTPServer:
    """A server on 127.0.0.1:`port` (0: any free one); the caller runs and closes it."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            url = f"http://127.0.0.1{self.path}"
            content = self.rfile.read(length)
            response = api.handle_request(httpx.Request(self.command, url, content=content))
            self.send_response(response.status_code)
            for name in ("Content-Type", "Retry-After"):
                if name in response.headers:
                    self.send_header(name, response.headers[name])
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        do_GET: Callable[..., None] = answer
        do_POST: Callable[..., None] = answer
        do_PATCH: Callable[..., None] = answer
        do_DELETE: Callable[..., None] = answer

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    given = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    scenario = {"seconds": 20, "total": 18_000, "failed": 25, **given}
    port = scenario.pop("port", 8000)
    with serve(RunningApi(**scenario), port) as server:
        print(f"http://127.0.0.1:{port}", flush=True)
        server.serve_forever()
