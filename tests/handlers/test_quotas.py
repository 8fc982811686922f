"""Limits over HTTP and WebSocket: a 429 that says what is used up and when to come again."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chalicelib import wiring
from chalicelib.access.caller import Caller
from chalicelib.access.scopes import SCOPES, allowed
from chalicelib.api import web
from chalicelib.core.backend import Backend
from chalicelib.quotas import rate
from chalicelib.quotas.rate import Buckets
from infra.package import ROOT
from tests.handlers.conftest import Http

BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}
SCHEDULE = {"expression": "rate(1 hour)", "request": BODY}


@pytest.fixture
def limited(http: Http, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set limits, and who is calling."""
    monkeypatch.setattr(rate, "_buckets", Buckets())

    def limit(owner: str = "me", **limits: int) -> None:
        settings = dataclasses.replace(backend.settings, **limits)
        asked = dataclasses.replace(backend, settings=settings)
        monkeypatch.setattr(wiring, "backend", lambda: asked)

        async def identify(*_: Any) -> Caller:
            return Caller(owner, allowed(SCOPES))

        monkeypatch.setattr(web, "identify", identify)

    return limit


def refused(answer: Any, reason: str) -> dict[str, Any]:
    """The problem of a 429 whose fields are as they must be."""
    assert answer.status_code == 429
    problem: dict[str, Any] = answer.json_body
    assert (problem["status"], problem["reason"]) == (429, reason)
    assert problem["type"].rpartition(":")[2] == reason.lower().replace("_", "-")
    assert int(answer.headers["Retry-After"]) >= 1
    name = reason.removeprefix("QUOTA_").lower()
    assert re.fullmatch(rf'"{name}";q=\d+(;qu="\w+")?(;w=\d+)?', answer.headers["RateLimit-Policy"])
    assert re.fullmatch(rf'"{name}";r=0;t=\d+', answer.headers["RateLimit"])
    return problem


def test_a_start_above_the_active_tasks_is_refused_and_its_key_is_free_again(
    http: Http, limited: Any
) -> None:
    limited(owner_active_tasks=1)
    first = http("POST", "/start", {**BODY, "force": True}).json_body["task_id"]
    key = {"Idempotency-Key": "k"}
    refused(http("POST", "/start", {**BODY, "force": True}, key), "QUOTA_ACTIVE_TASKS")
    refused(http("POST", "/refresh-symbols", {}), "QUOTA_ACTIVE_TASKS")
    http("POST", f"/task/{first}/cancel")
    assert http("POST", "/start", {**BODY, "force": True}, key).status_code == 202
    refused(http("POST", f"/task/{first}/retry"), "QUOTA_ACTIVE_TASKS")


def test_a_request_that_is_wrong_is_told_so_though_no_task_would_fit(
    http: Http, limited: Any
) -> None:
    limited(owner_active_tasks=1)
    http("POST", "/start", BODY)
    answer = http("POST", "/start", {"symbols": ["NEWUSDT"]})
    assert (answer.status_code, answer.json_body["reason"]) == (400, "INVALID_REQUEST")


def test_a_schedule_too_many_is_refused(http: Http, limited: Any) -> None:
    limited(owner_schedules=1)
    assert http("POST", "/schedules", SCHEDULE).status_code == 201
    refused(http("POST", "/schedules", SCHEDULE), "QUOTA_SCHEDULES")
    limited("another", owner_schedules=1)
    assert http("POST", "/schedules", SCHEDULE).status_code == 201


@pytest.mark.parametrize(("method", "path"), [("GET", "/status"), ("POST", "/start")])
def test_requests_above_the_rate_are_refused_before_any_call(
    http: Http, limited: Any, aws: Any, clock: Any, method: str, path: str
) -> None:
    limited(owner_requests_per_second=1)
    body = BODY if method == "POST" else None
    answers = [http(method, path, body) for _ in range(2)]
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert [answer.headers["RateLimit"] for answer in answers] == [
        '"requests_per_second";r=1;t=1',
        '"requests_per_second";r=0;t=1',
    ]
    calls = len(aws.calls)
    refused(http(method, path, body), "QUOTA_REQUESTS_PER_SECOND")
    assert len(aws.calls) == calls
    limited("another", owner_requests_per_second=1)
    assert http(method, path, body).status_code in (200, 202)
    limited("me", owner_requests_per_second=1)
    clock.advance(1000)
    assert http(method, path, body).status_code in (200, 202)


def test_without_limits_no_answer_speaks_of_them(http: Http) -> None:
    for _ in range(50):
        answer = http("GET", "/tasks")
        assert answer.status_code == 200
        assert not {"RateLimit", "RateLimit-Policy"} & set(answer.headers)


def test_the_status_shows_each_limit_and_what_is_used_of_it(
    http: Http, limited: Any, clock: Any
) -> None:
    assert set(map(str, http("GET", "/status").json_body["limits"].values())) == {
        "{'limit': None, 'used': None}"
    }
    limited(
        owner_active_tasks=9,
        owner_units_per_day=8,
        owner_schedules=7,
        owner_connections=6,
        owner_requests_per_second=5,
        owner_webhooks_per_minute=4,
    )
    http("POST", "/start", BODY)
    http("POST", "/schedules", SCHEDULE)
    status = http("GET", "/status").json_body
    spec = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    schema = {"$ref": "#/components/schemas/Status", "components": spec["components"]}
    assert not [error.message for error in Draft202012Validator(schema).iter_errors(status)]
    shown = status["limits"]
    resets = {name: entry.pop("resets_at") for name, entry in shown.items() if len(entry) > 2}
    assert shown == {
        "active_tasks": {"limit": 9, "used": 1},
        "units_per_day": {"limit": 8, "used": 0},
        "schedules": {"limit": 7, "used": 1},
        "connections": {"limit": 6, "used": 0},
        "requests_per_second": {"limit": 5, "used": None},
        "webhooks_per_minute": {"limit": 4, "used": 0},
    }
    assert set(resets) == {"units_per_day", "webhooks_per_minute"}
    assert resets["units_per_day"].endswith("T00:00:00.000Z")
    assert resets["webhooks_per_minute"].endswith(":00.000Z")
