"""Lambda stops no loop of ours; and every loop that it would stop is known by what sends and wakes.

That each loop ends by itself is shown where it is made: docs/RELIABILITY.md, "Loops".
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from chalicelib.core.environ import from_environ
from infra import functions, loops, policies, storage
from infra.functions import FUNCTIONS, role

Resources = dict[str, Any]
Edges = set[tuple[str, str]]


def sends(resources: Resources, function: str) -> set[str]:
    """The queues to which a function may send (test_permissions.py: all to which it does)."""
    [policy] = resources[role(function)]["Properties"]["Policies"]
    return {
        arn["Fn::GetAtt"][0]
        for statement in policy["PolicyDocument"]["Statement"]
        if "sqs:SendMessage" in statement["Action"]
        for arn in statement["Resource"]
    }


def edges(resources: Resources) -> Edges:
    """(from, to) of every way that a message, or its dead letter, can take."""
    found: Edges = set()
    for name, resource in resources.items():
        properties = resource["Properties"]
        if name in FUNCTIONS.values():
            found |= {(name, queue) for queue in sends(resources, name)}
            for event in properties.get("Events", {}).values():
                if event["Type"] == "SQS":
                    found.add((event["Properties"]["Queue"]["Fn::GetAtt"][0], name))
        if "RedrivePolicy" in properties:
            target = properties["RedrivePolicy"]["deadLetterTargetArn"]
            found.add((name, target["Fn::GetAtt"][0]))
    return found


def in_loops(ways: Edges) -> set[str]:
    """The functions from which a way leads back to themselves: the closure of all ways."""
    closed = set(ways)
    while True:
        longer = {(a, d) for a, b in closed for c, d in ways if b == c} - closed
        if not longer:
            return {a for a, b in closed if a == b and a in FUNCTIONS.values()}
        closed |= longer


def allowed(resources: Resources) -> set[str]:
    return {
        name
        for name in FUNCTIONS.values()
        if resources[name]["Properties"].get("RecursiveLoop") == "Allow"
    }


@pytest.fixture
def merged() -> Resources:
    """What the template is made of, before any loop is allowed."""
    settings = from_environ({})
    return deepcopy(
        {
            **storage.queues(functions.timeouts(settings)),
            **functions.functions(settings, {}),
            **policies.roles(),
        }
    )


def test_a_function_may_go_round_exactly_where_its_own_messages_wake_it_again(
    resources: Resources,
) -> None:
    looping = in_loops(edges(resources))
    assert looping, "there are loops: an outage, low priority, the next messages of a task"
    assert allowed(resources) == looping


@pytest.mark.parametrize("queue", ["PushQueue", "WebhookQueue", "WorkQueue", "DeadLetterQueue"])
@pytest.mark.parametrize("function", sorted(FUNCTIONS.values()))
def test_a_loop_that_a_new_permission_makes_is_allowed_with_it(
    merged: Resources, function: str, queue: str
) -> None:
    [policy] = merged[role(function)]["Properties"]["Policies"]
    policy["PolicyDocument"]["Statement"].append(policies._send(queue))
    loops.allow(merged)
    assert allowed(merged) == in_loops(edges(merged))


def test_a_loop_over_dead_letters_alone_is_allowed(merged: Resources) -> None:
    """A message that is never sent by its consumer, but whose dead letter is sent back."""
    redrive = {"deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}}
    merged["WebhookQueue"]["Properties"]["RedrivePolicy"] = redrive
    [policy] = merged["BuryRole"]["Properties"]["Policies"]
    policy["PolicyDocument"]["Statement"] = [policies._send("WebhookQueue")]
    [policy] = merged["DeliverWebhookRole"]["Properties"]["Policies"]
    policy["PolicyDocument"]["Statement"] = []
    loops.allow(merged)
    assert "Bury" in allowed(merged)
    assert "DeliverWebhook" not in allowed(merged)


def test_nothing_else_is_wired_through_which_lambda_follows_a_chain(resources: Resources) -> None:
    """Through S3's notifications, SNS, and one function that invokes another: Lambda Developer
    Guide, invocation-recursion, "Supported AWS services"."""
    woken_by = {
        event["Type"]
        for name in FUNCTIONS.values()
        for event in resources[name]["Properties"].get("Events", {}).values()
    }
    assert woken_by <= {"SQS", "DynamoDB", "Schedule"}
    assert "NotificationConfiguration" not in resources["CandlesBucket"]["Properties"]
    actions = {
        action
        for name in FUNCTIONS.values()
        for statement in resources[role(name)]["Properties"]["Policies"][0]["PolicyDocument"][
            "Statement"
        ]
        for action in statement["Action"]
    }
    assert not {action for action in actions if action.startswith(("lambda:", "sns:"))}
