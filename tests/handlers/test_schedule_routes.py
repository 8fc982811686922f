"""Schedules at the HTTP edge: codes, headers, problem documents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from infra.package import ROOT
from tests.doubles.aws import Aws
from tests.handlers.conftest import Http
from tests.handlers.test_http import problem

BODY: dict[str, Any] = {
    "name": "hourly",
    "expression": "cron(0 * * * ? *)",
    "timezone": "Europe/Berlin",
    "request": {"symbols": ["BTCUSDT"], "timeframes": ["1h"]},
    "freshness": {"max_lag_seconds": 7200},
}
NOBODY = "0b8f6c1e-0000-4000-8000-000000000001"


def make(http: Http, **fields: Any) -> str:
    answer = http("POST", "/schedules", {**BODY, **fields})
    assert answer.status_code == 201, answer.body
    return str(answer.json_body["schedule_id"])


def test_a_schedule_is_made_shown_changed_run_and_deleted(http: Http) -> None:
    answer = http("POST", "/schedules", BODY)
    assert answer.status_code == 201
    made = answer.json_body
    path = f"/schedules/{made['schedule_id']}"
    assert answer.headers["Location"] == f"/api/v1/data-collector{path}"
    assert http("GET", path).json_body == made
    assert made["request"] == {
        **BODY["request"],
        "priority": "normal",
        "tolerated_failure_percentage": 100,
        "timeout_seconds": 86400,
    }
    assert made["next_run_at"] == "2026-03-04T06:00:00.000Z"
    assert made["freshness"]["promised_seconds"] == 7200

    changed = http("PATCH", path, {"enabled": False})
    assert changed.status_code == 200
    assert (changed.json_body["enabled"], changed.json_body["next_run_at"]) == (False, None)

    ran = http("POST", f"{path}/run")
    assert ran.status_code == 202
    task_id = ran.json_body["task_id"]
    assert ran.headers["Location"] == f"/api/v1/data-collector/task/{task_id}"
    assert ran.headers["Retry-After"] == "1"
    assert http("GET", f"/task/{task_id}").json_body["schedule_id"] == made["schedule_id"]
    last = http("GET", path).json_body["last_run"]
    assert (last["task_id"], last["status"], last["by"]) == (task_id, "pending", "anonymous")

    deleted = http("DELETE", path)
    assert deleted.status_code == 200
    assert deleted.json_body == {"schedule_id": made["schedule_id"], "status": "deleted"}
    problem(http("DELETE", path), 404, "SCHEDULE_NOT_FOUND")
    assert http("GET", f"/task/{task_id}").status_code == 200


@pytest.mark.parametrize(
    ("method", "where", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"enabled": True}),
        ("DELETE", "", None),
        ("POST", "/run", None),
    ],
)
@pytest.mark.parametrize("schedule_id", [NOBODY, "x" * 3000, "a%2Fb"])
def test_an_unknown_schedule_is_404_for_every_method(
    http: Http, method: str, where: str, body: object, schedule_id: str
) -> None:
    problem(http(method, f"/schedules/{schedule_id}{where}", body), 404, "SCHEDULE_NOT_FOUND")


def test_problems_are_named_by_pointers_and_nothing_is_stored(http: Http, aws: Aws) -> None:
    body = {**BODY, "expression": "cron(0 6 * * * *)", "request": {"symbols": ["NOPE"]}}
    found = problem(http("POST", "/schedules", body), 400, "INVALID_REQUEST")["errors"]
    assert [entry["pointer"] for entry in found] == ["/expression", "/request/symbols/0"]
    # The symbol may be new: the list is read again.
    made = [item["task_type"]["S"] for item in aws.items("tasks") if "task_type" in item]
    assert made == ["symbol_refresh"]
    assert aws.counts["scheduler.CreateSchedule"] == 0
    path = f"/schedules/{make(http)}"
    problem(http("PATCH", path, {"enabled": "yes"}), 400, "INVALID_REQUEST")
    problem(http("PATCH", path), 400, "INVALID_REQUEST")
    problem(http("PATCH", path, b"{"), 400, "INVALID_JSON")
    problem(http("POST", f"{path}/run", {"symbols": []}), 400, "INVALID_REQUEST")
    problem(http("DELETE", path, {"why": "not"}), 400, "INVALID_REQUEST")
    text = {"Content-Type": "text/plain"}
    problem(http("POST", "/schedules", b"x", text), 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_repeated_post_with_its_key_makes_one_schedule_and_one_run(http: Http, aws: Aws) -> None:
    key = {"Idempotency-Key": "one"}
    first, second = (http("POST", "/schedules", BODY, key) for _ in range(2))
    assert (first.json_body, first.headers["Location"]) == (
        second.json_body,
        second.headers["Location"],
    )
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(aws.scheduler.schedules) == 1
    problem(http("POST", "/schedules", {**BODY, "name": "b"}, key), 422, "IDEMPOTENCY_KEY_REUSED")
    path = f"/schedules/{first.json_body['schedule_id']}/run"
    runs = [http("POST", path, None, {"Idempotency-Key": "two"}) for _ in range(2)]
    assert runs[0].json_body == runs[1].json_body


def test_a_key_whose_request_was_rejected_may_be_used_again(http: Http) -> None:
    key = {"Idempotency-Key": "one"}
    problem(http("POST", "/schedules", {}, key), 400, "INVALID_REQUEST")
    assert http("POST", "/schedules", BODY, key).status_code == 201


def test_schedules_are_listed_page_by_page(http: Http) -> None:
    made = sorted(make(http, name=f"number {number}") for number in range(3))
    page = http("GET", "/schedules?page_size=2").json_body
    rest = http("GET", f"/schedules?page_size=2&page_token={page['next_page_token']}").json_body
    listed = [entry["schedule_id"] for entry in page["schedules"] + rest["schedules"]]
    assert listed == made
    assert rest["next_page_token"] is None
    assert "request" not in page["schedules"][0]


@pytest.mark.parametrize("query", ["page_size=0", "page_size=x", "page_token=x", "nope=1"])
def test_a_wrong_query_is_refused(http: Http, query: str) -> None:
    problem(http("GET", f"/schedules?{query}"), 400, "INVALID_REQUEST")


def test_a_schedule_is_stored_though_eventbridge_fails(http: Http, aws: Aws) -> None:
    aws.scheduler.group = "another"  # as if the group were gone
    answer = http("POST", "/schedules", BODY)
    assert answer.status_code == 201
    assert answer.json_body["in_sync"] is False


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    body=st.dictionaries(
        st.sampled_from(["expression", "request", "enabled", "freshness", "timezone", "x"]),
        st.none() | st.integers() | st.text(max_size=10) | st.just(BODY["expression"]),
        max_size=4,
    )
)
def test_no_body_makes_the_server_fail(http: Http, body: dict[str, Any]) -> None:
    answer = http("POST", "/schedules", body)
    assert answer.status_code in (201, 400)
    assert json.loads(answer.body)


def test_answers_fit_the_contract(http: Http) -> None:
    spec = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))

    def check(name: str, answer: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": spec["components"]}
        errors = [error.message for error in Draft202012Validator(schema).iter_errors(answer)]
        assert errors == []

    path = f"/schedules/{make(http)}"
    http("POST", f"{path}/run")
    check("Schedule", http("GET", path).json_body)
    check("Schedule", http("PATCH", path, {"freshness": None, "enabled": False}).json_body)
    [listed] = http("GET", "/schedules").json_body["schedules"]
    check("ListedSchedule", listed)
    for body in (BODY, {"expression": "rate(1 hour)"}):
        check("NewSchedule", body)
    task = http("GET", "/tasks").json_body["tasks"][0]
    assert task["schedule_id"] == listed["schedule_id"]
    check("ListedTask", task)
