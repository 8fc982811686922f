"""Where requests are signed, each caller has tasks of his own, and sees and moves no others."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from chalicelib import wiring
from chalicelib.api import web
from chalicelib.core.backend import Backend
from tests.handlers.conftest import Http

MINE, THEIRS = "arn:aws:iam::123456789012:user/me", "arn:aws:iam::123456789012:user/them"


@pytest.fixture
def as_caller(http: Http, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set what AUTHENTICATION is, and who API Gateway says is calling."""

    def act(caller: str, authentication: str = "iam") -> None:
        settings = dataclasses.replace(backend.settings, authentication=authentication)
        asked = dataclasses.replace(backend, settings=settings)
        monkeypatch.setattr(wiring, "backend", lambda: asked)
        monkeypatch.setattr(web, "owner", lambda: caller)

    return act


def _started(http: Http) -> str:
    answer = http("POST", "/start", {"symbols": ["BTCUSDT"], "timeframes": ["1h"]})
    task_id: str = answer.json_body["task_id"]
    return task_id


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/cancel"), ("POST", "/retry")])
def test_another_callers_task_is_as_unknown_as_one_that_never_was(
    http: Http, as_caller: Any, method: str, path: str
) -> None:
    as_caller(MINE)
    task_id = _started(http)
    as_caller(THEIRS)
    answer = http(method, f"/task/{task_id}{path}")
    assert (answer.status_code, answer.json_body["reason"]) == (404, "TASK_NOT_FOUND")
    as_caller(MINE)
    assert http("GET", f"/task/{task_id}").json_body["status"] == "pending"


def test_lists_hold_the_callers_own_tasks(http: Http, as_caller: Any) -> None:
    as_caller(MINE)
    task_id = _started(http)
    for path in ("/tasks", "/tasks/active"):
        assert [task["task_id"] for task in http("GET", path).json_body["tasks"]] == [task_id]
    as_caller(THEIRS)
    for path in ("/tasks", "/tasks/active"):
        assert http("GET", path).json_body["tasks"] == []


def test_two_callers_may_use_the_same_key(http: Http, as_caller: Any) -> None:
    key, body = {"Idempotency-Key": "k-1"}, {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}
    started = []
    for caller in (MINE, THEIRS, MINE):
        as_caller(caller)
        started.append(http("POST", "/start", body, key).json_body["task_id"])
        assert http("GET", f"/task/{started[-1]}").status_code == 200
    assert started[0] == started[2] != started[1]


def test_where_nobody_is_asked_nobody_is_told_apart(http: Http, as_caller: Any) -> None:
    as_caller(MINE, "none")
    task_id = _started(http)
    as_caller(THEIRS, "none")
    assert http("GET", f"/task/{task_id}").status_code == 200
    assert http("POST", f"/task/{task_id}/cancel").status_code == 202
