"""GET /audit over HTTP: who may see what, which questions are refused, how pages go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest

from chalicelib.api import web
from chalicelib.audit.chain import FIELDS, verify
from chalicelib.aws.calls import run
from chalicelib.core.backend import Backend
from chalicelib.core.settings import Settings
from chalicelib.events.record import record_market_changes
from infra.package import ROOT
from tests.doubles.aws import Aws
from tests.doubles.clock import Clock
from tests.handlers.conftest import Http, reader
from tests.handlers.test_http import problem

START = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}


@pytest.fixture
def cancelled(http: Http, stream: Any) -> str:
    """The id of a task that was submitted and cancelled, and whose trail is written."""
    task_id: str = http("POST", "/start", START).json_body["task_id"]
    assert http("POST", f"/task/{task_id}/cancel").status_code == 202
    stream()
    return task_id


def test_a_tasks_trail_is_whole_and_newest_last(http: Http, cancelled: str) -> None:
    answer = http("GET", f"/audit?task_id={cancelled}")
    assert answer.status_code == 200
    events = answer.json_body["events"]
    assert [event["action"] for event in events] == [
        "task.submitted",
        "task.cancelled",
        "task.stopped",
    ]
    assert answer.json_body["next_page_token"] is None
    assert all(set(event) == set(FIELDS) for event in events)
    assert verify(f"task:{cancelled}", events) == []


def test_what_somebody_did_bears_their_name_and_their_request(
    http: Http, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asks(owner: str, path: str, body: object = None) -> Any:
        monkeypatch.setattr(web, "caller", lambda: reader(owner))
        monkeypatch.setattr(web, "request_id", lambda: f"request of {owner}")
        return http("POST", path, body).json_body

    task_id = asks("me", "/start", START)["task_id"]
    asks("you", f"/task/{task_id}/cancel")
    asks("she", f"/task/{task_id}/retry")
    stream()
    monkeypatch.setattr(web, "caller", lambda: reader("me"))
    events = http("GET", f"/audit?task_id={task_id}").json_body["events"]
    assert [(event["action"], event["by"], event["request_id"]) for event in events] == [
        ("task.submitted", "me", "request of me"),
        ("task.cancelled", "you", "request of you"),
        ("task.stopped", "system", None),
        ("task.retried", "she", "request of she"),
    ]
    assert {event["owner"] for event in events} == {"me"}


def test_pages_go_on_by_their_tokens(http: Http, cancelled: str) -> None:
    for question in (f"task_id={cancelled}", "action=task.cancelled", ""):
        whole = http("GET", f"/audit?{question}").json_body["events"]
        found: list[Any] = []
        token = ""
        while True:
            page = http("GET", f"/audit?{question}&page_size=1{token}").json_body
            found += page["events"]
            if page["next_page_token"] is None:
                break
            token = "&page_token=" + quote(page["next_page_token"], safe="")
        assert found == whole
        assert found


def test_it_can_be_read_after_the_task_has_expired(
    http: Http, cancelled: str, aws: Aws, clock: Clock, stream: Any
) -> None:
    clock.advance(400_000)
    gone = problem(http("GET", f"/task/{cancelled}"), 410, "TASK_EXPIRED")
    linked = gone["audit"].removeprefix("/api/v1/data-collector")
    assert len(http("GET", linked).json_body["events"]) == 3
    aws.dynamodb.expire("tasks")
    stream()
    gone = problem(http("GET", f"/task/{cancelled}"), 410, "TASK_EXPIRED")
    assert [event["action"] for event in http("GET", linked).json_body["events"]][3:] == [
        "task.expired"
    ]


def test_an_unknown_subject_has_no_events(http: Http) -> None:
    for subject in ("task_id=unknown", "schedule_id=unknown", "exchange=unknown", ""):
        answer = http("GET", f"/audit?{subject}")
        assert answer.status_code == 200
        assert answer.json_body == {"events": [], "next_page_token": None}


@pytest.mark.parametrize(
    ("question", "pointer"),
    [
        ("task=x", "/task"),
        ("task_id=", "/task_id"),
        (f"task_id={'x' * 101}", "/task_id"),
        ("task_id=x&schedule_id=y", "/schedule_id"),
        ("from=yesterday", "/from"),
        ("from=1767225600", "/from"),
        ("to=1767225600", "/to"),
        ("to=-1", "/to"),
        ("from=2026-01-02&to=2026-01-01", "/from"),
        ("from=2026-01-01&to=2026-01-01", "/from"),
        ("action=everything", "/action"),
        ("action=Task.Submitted", "/action"),
        ("page_size=0", "/page_size"),
        ("page_size=101", "/page_size"),
        ("page_token=x", "/page_token"),
        ("page_token=", "/page_token"),
        ("task_id=x&page_token=", "/page_token"),
        ("task_id=x&page_token=IjIwMjYtMTEtMjNUMDA6MDA6MDAuMDAwWiI", "/page_token"),
    ],
)
def test_a_question_that_cannot_be_is_refused_by_name(
    http: Http, question: str, pointer: str
) -> None:
    errors = problem(http("GET", f"/audit?{question}"), 400, "INVALID_REQUEST")["errors"]
    assert [error["pointer"] for error in errors] == [pointer]


def test_an_owner_sees_only_what_is_theirs(
    http: Http, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(owner: str, method: str, path: str, body: object = None) -> Any:
        monkeypatch.setattr(web, "caller", lambda: reader(owner))
        return http(method, path, body).json_body

    mine = ask("me", "POST", "/start", START)["task_id"]
    yours = ask("you", "POST", "/start", START)["task_id"]
    stream()
    seen = {event["subject"] for event in ask("me", "GET", "/audit")["events"]}
    assert seen == {f"task:{mine}"}
    assert ask("me", "GET", f"/audit?task_id={yours}")["events"] == []
    assert len(ask("you", "GET", f"/audit?task_id={yours}")["events"]) == 1


def test_the_answer_is_the_contracts(http: Http, cancelled: str) -> None:
    contract = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    events = http("GET", f"/audit?task_id={cancelled}").json_body["events"]
    for event in events:
        jsonschema.validate(event, contract["components"]["schemas"]["AuditEvent"])


def test_what_became_of_keys_is_shown_to_admins_and_to_the_keys_owner_alone(
    http: Http,
    keyed: Backend,
    new_key: Callable[..., str],
    aws: Aws,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web, "request_id", lambda: "r")
    admin, other = new_key("boss", "admin"), new_key("them", "read")
    http.key = admin
    made = http("POST", "/keys", {"owner": "me", "scopes": ["read"]}).json_body
    path = f"/keys/{made['key_id']}"
    rotated = http("POST", f"{path}/rotate").json_body
    http.key = rotated["key"]
    assert http("GET", "/tasks").status_code == 200  # used: no event
    records = aws.stream_event(settings.keys_table)["Records"]
    http.key = admin
    assert http("DELETE", path).status_code == 200
    assert http("DELETE", path).status_code == 200  # again: no event
    for again in (records, aws.stream_event(settings.keys_table)["Records"]):
        run(record_market_changes(keyed, again))
    events = http("GET", f"/audit?key_id={made['key_id']}").json_body["events"]
    assert [(event["action"], event["by"]) for event in events] == [
        ("key.created", "boss"),
        ("key.rotated", "boss"),
        ("key.revoked", "boss"),
    ]
    assert {event["request_id"] for event in events} == {"r"}
    assert verify(f"key:{made['key_id']}", events) == []
    first = http("GET", "/audit?action=key.created").json_body["events"]
    assert {(event["owner"], event["by"]) for event in first} == {
        ("boss", "deployer"),
        ("them", "deployer"),
        ("me", "boss"),
    }
    for key, owners in ((other, {"them"}), (new_key("me", "read"), {"me"})):
        http.key = key
        seen = http("GET", "/audit").json_body["events"]
        assert {event["owner"] for event in seen} == owners
    told = str(aws.events.published) + str(aws.items(settings.audit_table))
    hashes = [item["secret_hash"] for item in aws.items(settings.keys_table)]
    for secret in [made["key"][21:], rotated["key"][21:], *(found["S"] for found in hashes)]:
        assert secret not in told
