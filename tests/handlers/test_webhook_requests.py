"""A webhook over HTTP: asked for, refused by pointer, shown without what is secret."""

from __future__ import annotations

from typing import Any

import pytest

HOOK = {"url": "https://hooks.acme.com/in?token=hidden", "secret": "hidden-hidden-hidden-hidden"}
BODY = {"symbols": ["BTCUSDT"], "timeframes": ["1h"]}


def test_a_task_shows_the_host_of_its_webhook_and_nothing_secret(http: Any, aws: Any) -> None:
    answer = http("POST", "/start", {**BODY, "webhook": HOOK})
    assert answer.status_code == 202
    task_id = answer.json_body["task_id"]
    view = http("GET", f"/task/{task_id}")
    assert view.json_body["webhook"] == {
        "url_host": "hooks.acme.com",
        "delivered": 0,
        "failed": 0,
        "pending": 0,
        "last_error": None,
    }
    for path in (f"/task/{task_id}", "/tasks", "/tasks/active", "/status", "/metrics"):
        assert b"hidden" not in http("GET", path).body


def test_a_task_without_a_webhook_shows_null_and_costs_no_call_more(http: Any, aws: Any) -> None:
    aws.counts.clear()
    task_id = http("POST", "/start", {**BODY, "force": True}).json_body["task_id"]
    assert aws.counts.total() == 3
    aws.counts.clear()
    assert http("GET", f"/task/{task_id}").json_body["webhook"] is None
    without = aws.counts.total()
    hooked = http("POST", "/start", {**BODY, "force": True, "webhook": HOOK}).json_body["task_id"]
    aws.counts.clear()
    http("GET", f"/task/{hooked}")
    assert aws.counts.total() == without + 1


@pytest.mark.parametrize(
    ("webhook", "pointers"),
    [
        ("https://hooks.acme.com", ["/webhook"]),
        ({}, ["/webhook/url", "/webhook/secret"]),
        ({**HOOK, "url": "http://hooks.acme.com/hidden"}, ["/webhook/url"]),
        ({**HOOK, "url": "https://169.254.169.254/hidden"}, ["/webhook/url"]),
        ({**HOOK, "secret": "hidden"}, ["/webhook/secret"]),
        ({**HOOK, "events": ["hidden"]}, ["/webhook/events/0"]),
        ({**HOOK, "header": "hidden"}, ["/webhook/header"]),
    ],
)
def test_what_is_wrong_with_a_webhook_is_named_and_never_repeated(
    http: Any, aws: Any, settings: Any, webhook: object, pointers: list[str]
) -> None:
    answer = http("POST", "/start", {**BODY, "webhook": webhook})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json_body["errors"]] == pointers
    assert b"hidden" not in answer.body
    assert not aws.items(settings.tasks_table)


def test_a_start_repeated_by_its_key_makes_one_task_with_one_webhook(
    http: Any, aws: Any, settings: Any
) -> None:
    body = {**BODY, "webhook": HOOK}
    answers = [http("POST", "/start", body, {"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].json_body == answers[1].json_body
    other = {**body, "webhook": {**HOOK, "secret": "another-another-another-"}}
    assert http("POST", "/start", other, {"Idempotency-Key": "k"}).status_code == 422
    hooks = [item for item in aws.items(settings.tasks_table) if item["sk"] == {"S": "HOOK"}]
    assert len(hooks) == 1
