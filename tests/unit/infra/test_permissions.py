"""Each function's role allows every call that its code makes in the stories of the error table.

The embedded cloud enforces no permissions, so a missing one would first show on AWS.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest

from infra import policies
from infra.functions import FUNCTIONS, role
from tests.doubles.aws import Called, Hook
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
