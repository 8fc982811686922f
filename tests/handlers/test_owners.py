"""Each caller has tasks of their own, and sees and moves no others; an admin sees and moves all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.core.backend import Backend
from tests.handlers.conftest import Http

START = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}
As = Callable[..., None]


@pytest.fixture
def as_caller(http: Http, new_key: Callable[..., str]) -> As:
    """Send what follows with a key of this owner; one key each."""
    keys: dict[tuple[str, ...], str] = {}

    def act(owner: str, *scopes: str) -> None:
        wanted = (owner, *(scopes or ("collect",)))
        if wanted not in keys:
            keys[wanted] = new_key(*wanted)
        http.key = keys[wanted]

    return act


def _started(http: Http) -> str:
    task_id: str = http("POST", "/start", {**START, "force": True}).json_body["task_id"]
    return task_id


def _listed(http: Http, path: str) -> list[str]:
    return [task["task_id"] for task in http("GET", path).json_body["tasks"]]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/cancel"), ("POST", "/retry")])
def test_another_callers_task_is_as_unknown_as_one_that_never_was(
    http: Http, as_caller: As, method: str, path: str
) -> None:
    as_caller("me")
    task_id = _started(http)
    as_caller("them")
    answer = http(method, f"/task/{task_id}{path}")
    assert (answer.status_code, answer.json_body["reason"]) == (404, "TASK_NOT_FOUND")
    as_caller("me")
    assert http("GET", f"/task/{task_id}").json_body["status"] == "pending"


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/cancel"), ("POST", "/retry")])
@pytest.mark.parametrize("deleted", [False, True])
def test_another_callers_expired_task_is_unknown_too(
    http: Http,
    as_caller: As,
    clock: Any,
    aws: Any,
    settings: Any,
    stream: Any,
    method: str,
    path: str,
    deleted: bool,
) -> None:
    as_caller("me")
    task_id = _started(http)
    http("POST", f"/task/{task_id}/cancel")
    stream()
    clock.advance(settings.retention_seconds * 1000)
    if deleted:
        aws.dynamodb.tables[settings.tasks_table].items.clear()
    answers = {}
    for owner, scope in (("me", "collect"), ("them", "collect"), ("boss", "admin")):
        as_caller(owner, scope)
        answers[owner] = http(method, f"/task/{task_id}{path}").status_code
    assert answers == {"me": 410, "them": 404, "boss": 410}


def test_lists_and_figures_are_of_the_callers_own_tasks(http: Http, as_caller: As) -> None:
    as_caller("me")
    task_id = _started(http)
    for path in ("/tasks", "/tasks/active"):
        assert _listed(http, path) == [task_id]
    assert http("GET", "/status").json_body["status"] == "collecting"
    assert 'data_collector_tasks{state="pending"} 1' in http("GET", "/metrics").body.decode()
    as_caller("them")
    for path in ("/tasks", "/tasks/active"):
        assert _listed(http, path) == []
    status = http("GET", "/status").json_body
    assert (status["status"], status["queues"], status["rate_budget"]) == ("idle", None, None)
    own = http("GET", "/metrics").body.decode()
    assert 'data_collector_tasks{state="pending"} 0' in own
    assert "queue_messages" not in own


def test_an_admin_sees_everybodys_tasks_and_global_figures(http: Http, as_caller: As) -> None:
    tasks = []
    for owner in ("me", "them", "me", "boss", "them"):
        as_caller(owner, "admin" if owner == "boss" else "collect")
        tasks.append(_started(http))
    as_caller("boss", "admin")
    assert sorted(_listed(http, "/tasks/active")) == sorted(tasks)
    seen: list[str] = []
    query = "?page_size=2"
    while query:
        page = http("GET", f"/tasks{query}").json_body
        seen += [task["task_id"] for task in page["tasks"]]
        following = page["next_page_token"]
        query = f"?page_size=2&page_token={following.replace('#', '%23')}" if following else ""
    assert sorted(seen) == sorted(tasks)
    status = http("GET", "/status").json_body
    assert status["task_counts"]["pending"] == 5
    assert status["queues"]["plan"]["visible"] == 5
    assert status["rate_budget"]["limit"] > 0
    for scope in ("admin", "observe"):
        as_caller("watcher", scope)
        text = http("GET", "/metrics").body.decode()
        assert "data_collector_active_tasks 5" in text
        assert "data_collector_queue_messages" in text


def test_an_admin_cancels_and_retries_everybodys_tasks_in_their_own_name(
    http: Http, as_caller: As, stream: Any
) -> None:
    as_caller("me")
    task_id = _started(http)
    as_caller("boss", "admin")
    assert http("POST", f"/task/{task_id}/cancel").status_code == 202
    assert http("POST", f"/task/{task_id}/retry").status_code == 202
    stream()
    events = http("GET", f"/audit?task_id={task_id}").json_body["events"]
    by = {event["action"]: event["by"] for event in events}
    assert (by["task.submitted"], by["task.cancelled"], by["task.retried"]) == (
        "me",
        "boss",
        "boss",
    )
    as_caller("me")
    assert http("GET", f"/task/{task_id}").json_body["attempt"] == 2


SCHEDULE = {"name": "hourly", "expression": "cron(0 * * * ? *)", "request": START}


def _schedules(http: Http, page_size: int) -> list[str]:
    found: list[str] = []
    query = f"?page_size={page_size}"
    while query:
        page = http("GET", f"/schedules{query}").json_body
        found += [schedule["schedule_id"] for schedule in page["schedules"]]
        following = page["next_page_token"]
        query = f"?page_size={page_size}&page_token={following}" if following else ""
    return found


@pytest.mark.parametrize("page_size", [1, 2, 3, 20])
def test_an_admin_lists_everybodys_schedules_once_and_others_their_own(
    http: Http, as_caller: As, page_size: int
) -> None:
    made: dict[str, list[str]] = {"me": [], "them": [], "boss": []}
    for owner in ("me", "them", "me", "boss", "them", "me"):
        as_caller(owner, "admin" if owner == "boss" else "collect")
        made[owner].append(http("POST", "/schedules", SCHEDULE).json_body["schedule_id"])
    for owner in ("me", "them"):
        as_caller(owner)
        assert _schedules(http, page_size) == sorted(made[owner])
    as_caller("boss", "admin")
    assert _schedules(http, page_size) == sorted(each for ids in made.values() for each in ids)


def test_an_admin_changes_runs_and_deletes_everybodys_schedules_in_their_own_name(
    http: Http, as_caller: As, stream: Any
) -> None:
    as_caller("me")
    schedule_id = http("POST", "/schedules", SCHEDULE).json_body["schedule_id"]
    path = f"/schedules/{schedule_id}"
    calls = [("GET", "", None, 200), ("PATCH", "", {"enabled": False}, 200)]
    calls += [("POST", "/run", None, 202), ("DELETE", "", None, 200)]
    as_caller("them")
    for method, end, body, _ in calls:
        answer = http(method, path + end, body)
        assert (answer.status_code, answer.json_body["reason"]) == (404, "SCHEDULE_NOT_FOUND")
    as_caller("boss", "admin")
    for method, end, body, expected in calls:
        answer = http(method, path + end, body)
        assert answer.status_code == expected, answer.body
        if end == "/run":
            task_id = answer.json_body["task_id"]
    assert http("GET", path).status_code == 404
    assert http("DELETE", "/schedules/0b8f6c1e-0000-4000-8000-000000000001").status_code == 404
    stream()
    events = http("GET", f"/audit?schedule_id={schedule_id}").json_body["events"]
    assert [(event["action"].removeprefix("schedule."), event["by"]) for event in events] == [
        ("created", "me"),
        ("disabled", "boss"),
        ("fired", "boss"),
        ("deleted", "boss"),
    ]
    [submitted] = http("GET", f"/audit?task_id={task_id}").json_body["events"]
    assert (submitted["owner"], submitted["by"]) == ("me", "boss")
    as_caller("me")
    assert _listed(http, "/tasks") == [task_id]


def test_two_callers_may_use_the_same_idempotency_key(http: Http, as_caller: As) -> None:
    started = []
    for caller in ("me", "them", "me"):
        as_caller(caller)
        answer = http("POST", "/start", START, {"Idempotency-Key": "k-1"})
        started.append(answer.json_body["task_id"])
        assert http("GET", f"/task/{started[-1]}").status_code == 200
    assert started[0] == started[2] != started[1]


def test_where_nobody_is_asked_nobody_is_told_apart(http: Http, backend: Backend) -> None:
    task_id = _started(http)
    assert http("GET", f"/task/{task_id}").status_code == 200
    assert (
        http("POST", f"/task/{task_id}/cancel", headers={"Authorization": "x"}).status_code == 202
    )
