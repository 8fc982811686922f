"""Each function's role allows every call that its code makes in the stories of the error table.

What the stories do not need, `make permissions` looks for on a running stack (tests/permissions).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from infra import policies
from infra.functions import FUNCTIONS, role
from tests.doubles.aws import Called, Hook
from tests.permissions import record, stories
from tests.unit.error_table.life import Life, a_life
from tests.unit.error_table.sites import STORIES

#: Trigger in the stories -> the function that it wakes; HTTP requests wake the API.
WAKES = {
    "plan": "plan",
    "collect": "collect",
    "bury": "bury",
    "sweep": "sweep",
    "prices": "refresh_prices",
    "schedule": "run_schedule",
    "watch": "watch_schedules",
    "stream": "on_task_change",
    "market stream": "on_market_change",
    "export": "export_audit",
    "replay": "replay_changes",
    "webhooks": "deliver_webhook",
    "push": "push_updates",
    "connect": "websocket_connect",
    "message": "websocket_message",
    "disconnect": "websocket_disconnect",
}
TABLES = {
    "tasks": "${TasksTable.Arn}",
    "market": "${MarketTable.Arn}",
    "connections": "${ConnectionsTable.Arn}",
    "audit": "${AuditTable.Arn}",
    "keys": "${KeysTable.Arn}",
}
QUEUES = {
    "plan": "${PlanQueue.Arn}",
    "urgent": "${UrgentQueue.Arn}",
    "work": "${WorkQueue.Arn}",
    "dead-letters": "${DeadLetterQueue.Arn}",
    "stream-failures": "${StreamFailureQueue.Arn}",
    "unreadable": "${UnreadableQueue.Arn}",
    "webhooks": "${WebhookQueue.Arn}",
    "webhook-dead-letters": "${WebhookDeadLetterQueue.Arn}",
    "push": "${PushQueue.Arn}",
}
ARN = "arn:${AWS::Partition}:%s:${AWS::Region}:${AWS::AccountId}:"
#: (IAM action, resource in the words of the template)
Needed = tuple[str, str]


class Watcher(Hook):
    """Notes what every call of a life needs."""

    def __init__(self, life: Life, needed: dict[str, set[Needed]]) -> None:
        self._life, self._needed = life, needed

    async def before(self, called: Called) -> None:
        edge = self._life.edge
        if edge == "nobody":
            return
        function = "api_handler" if "/" in edge else WAKES[edge]
        self._needed.setdefault(function, set()).update(needs(called))


def needs(called: Called) -> Iterator[Needed]:
    """What IAM asks for one call: Service Authorization Reference of each service."""
    asked = called.parameters
    match called.service:
        case "dynamodb":
            for entry in asked.get("TransactItems", ()):
                [(kind, item)] = entry.items()
                yield f"dynamodb:{kind.removesuffix('Item')}Item", TABLES[item["TableName"]]
            action = f"dynamodb:{called.operation}"
            for table in asked.get("RequestItems", ()):
                yield action, TABLES[table]
            if "TableName" in asked:
                index = f"/index/{asked['IndexName']}" if "IndexName" in asked else ""
                yield action, TABLES[asked["TableName"]] + index
        case "sqs":
            queue = asked["QueueUrl"].rpartition("/")[2]
            yield f"sqs:{called.operation.removesuffix('Batch')}", QUEUES[queue]
        case "s3" if called.operation == "ListObjectsV2":
            yield "s3:ListBucket", "${CandlesBucket.Arn}"
        case "s3":
            yield f"s3:{called.operation}", f"${{CandlesBucket.Arn}}/{asked['Key']}"
            if called.operation == "GetObject":  # or a missing object is a 403
                yield "s3:ListBucket", "${CandlesBucket.Arn}"
        case "events":
            yield "events:PutEvents", "${EventBus.Arn}"
        case "scheduler":
            schedule = f"schedule/${{ScheduleGroup}}/{asked['Name']}"
            yield f"scheduler:{called.operation}", ARN % "scheduler" + schedule
            if called.operation != "DeleteSchedule":
                yield "iam:PassRole", "${SchedulerRole.Arn}"
        case "apigatewaymanagementapi":
            path = "${WebsocketAPI}/api/POST/@connections/" + asked["ConnectionId"]
            yield "execute-api:ManageConnections", ARN % "execute-api" + path
        case service:
            raise AssertionError(f"{service} is not known here")


@cache
def needed() -> dict[str, set[Needed]]:
    """Function -> what its code asked for, in all stories."""
    found: dict[str, set[Needed]] = {}
    for story in STORIES:
        with a_life() as life:
            life.aws.hooks.append(Watcher(life, found))
            story(life)
    return found


def statements(function: str) -> list[dict[str, Any]]:
    [policy] = policies.roles()[role(FUNCTIONS[function])]["Properties"]["Policies"]
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return found


def is_allowed(function: str, action: str, resource: str) -> bool:
    return any(
        action in statement["Action"]
        and any(fnmatchcase(resource, _text(pattern)) for pattern in statement["Resource"])
        for statement in statements(function)
    )


def _text(resource: Any) -> str:
    if isinstance(resource, str):
        return resource
    if "Fn::Sub" in resource:
        return str(resource["Fn::Sub"])
    name, attribute = resource["Fn::GetAtt"]
    return f"${{{name}.{attribute}}}"


def test_the_stories_wake_every_function() -> None:
    assert set(needed()) == set(FUNCTIONS)


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_a_role_allows_every_call_that_its_function_makes(function: str) -> None:
    refused = {one for one in needed()[function] if not is_allowed(function, *one)}
    assert refused == set()


def label(resource: Any) -> str:
    """As docs/PERMISSIONS.md names it: the template's name, and what follows it."""
    text = _text(resource)
    text = re.sub(r"\$\{(\w+)\.StreamArn\}", r"${\1}/stream", text)
    text = re.sub(r"\$\{(\w+)\.Arn\}", r"${\1}", text).rpartition(":log-group:")[2]
    named = re.search(r"\$\{(\w+)\}(.*)", text)
    return named[1] + named[2] if named else text


def test_the_record_names_every_permission_and_what_fails_without_it_or_who_says_so() -> None:
    """Where a policy has changed: `make permissions`."""
    allowed = {
        (function, action, label(resource))
        for function in FUNCTIONS
        for statement in statements(function)
        for action in statement["Action"]
        for resource in statement["Resource"]
    }
    assert record.named_in(record.PAGE.read_text(encoding="utf-8")) == allowed
    assert set(stories.STORIES) == set(FUNCTIONS)


def test_what_no_embedded_cloud_checks_has_its_source() -> None:
    """All else was taken away, and missed."""
    documented = {
        (function, action)
        for function in FUNCTIONS
        for statement in statements(function)
        for action in statement["Action"]
        for resource in statement["Resource"]
        if record.source_of(function, action, label(resource))
    }
    by_lambda = {action for one in policies.BY_LAMBDA.values() for action in one.actions}
    assert {action for _, action in documented} == by_lambda | set(policies.UNCHECKED)
    reading = {function for function, action in documented if action == "sqs:ReceiveMessage"}
    assert reading == {"plan", "collect", "bury", "deliver_webhook", "push_updates"}
    following = {function for function, action in documented if action == "dynamodb:GetRecords"}
    assert following == {"on_task_change", "on_market_change"}


def test_a_function_that_was_looked_at_again_replaces_its_own_section_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PAGE", tmp_path / "page.md")
    first = record.Needed("plan", "dynamodb:Query", "TasksTable/index/active", "a_story")
    other = record.Needed("bury", "logs:PutLogEvents", "group", "AWS's page")
    record.write("plan", [first], [])
    record.write("bury", [], [other])
    record.write("plan", [first._replace(action="dynamodb:GetItem")], [])
    text = record.PAGE.read_text(encoding="utf-8")
    assert record.named_in(text) == {
        ("plan", "dynamodb:GetItem", "TasksTable/index/active"),
        ("bury", "logs:PutLogEvents", "group"),
    }
    assert text.startswith(record.HEAD)
    assert text.count("1 of 1 are needed") == 1
